//! A file over HTTP: from public addresses unless something else is allowed, bounded, with what the server says of its version.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use data::Origin;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::{Host, Url};
use webhooks::{Guarded, is_public};

use crate::Error;

const REDIRECTS: usize = 10;
/// A server that sends nothing for so long has lost the connection.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// What was fetched.
#[derive(Debug)]
pub struct Got {
    /// The file.
    pub file: PathBuf,
    /// Where from, and which version of it.
    pub origin: Origin,
}

/// The address without user, password and query, which may hold secrets.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Fetches an address into a folder.
///
/// # Errors
/// An address that may not be called, that cannot be reached, answers otherwise than by 200, or has more than `most` bytes.
pub async fn get(address: &str, allow_private: bool, most: u64, folder: &Path) -> Result<Got, Error> {
    let first = Url::parse(address).map_err(|e| {
        Error::new(format!("the address cannot be understood: {e}"), "write it as https://HOST/PATH/FILE.csv")
    })?;
    let mut url = first.clone();
    for _ in 0..REDIRECTS {
        let response = ask(&url, allow_private).await?;
        if matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            let to = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
            let next = to.and_then(|to| url.join(to).ok());
            let nowhere = || Error::new(format!("{} redirects to nowhere", shown(&url)), "check the address");
            let next = next.ok_or_else(nowhere)?;
            if url.scheme() == "https" && next.scheme() != "https" {
                let message = format!("{} redirects to an address without TLS", shown(&url));
                return Err(Error::new(message, "give that address itself if you trust it"));
            }
            url = next;
            continue;
        }
        let status = response.status();
        if status != 200 {
            let message = format!("{} answers with status {}", shown(&url), status.as_u16());
            return Err(if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
                Error::unreachable(message, "try again later")
            } else {
                Error::new(message, "check the address, and whether it is open to everybody")
            });
        }
        return save(&first, response, most, folder).await;
    }
    Err(Error::new(format!("{} redirects in a circle", shown(&first)), "check the address"))
}

async fn ask(url: &Url, allow_private: bool) -> Result<Response<Incoming>, Error> {
    let private = || {
        let help =
            "fetch it by other means, or allow it: --allow-private, or `allow_private: true` in forebay.yaml";
        Error::new(format!("{} is an address of a private network", shown(url)), help)
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::new(format!("{} is not an http address", shown(url)), "write it as https://…"));
    }
    let written = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    // The connector takes an address that is written out as it is, without asking the resolver.
    if written.is_some_and(|ip| !allow_private && !is_public(ip)) {
        return Err(private());
    }
    let mut tcp = HttpConnector::new_with_resolver(Guarded { allow_private });
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.enforce_http(false);
    let tls =
        HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(tcp);
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(0)
        .build(tls);
    let request = Request::get(url.as_str())
        .header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|e| Error::new(format!("the address makes no request: {e}"), "check the address"))?;
    let answered = tokio::time::timeout(SILENCE, client.request(request)).await;
    let silent = || Error::unreachable(format!("{} does not answer", shown(url)), "try again later");
    answered.map_err(|_| silent())?.map_err(|e| {
        let chain = std::iter::successors(Some(&e as &dyn std::error::Error), |e| e.source());
        match chain.last().map(ToString::to_string).unwrap_or_default() {
            why if why.contains("not a public one") => private(),
            why => {
                let message = format!("cannot reach {}: {why}", shown(url));
                Error::unreachable(message, "check the address and the network")
            }
        }
    })
}

async fn save(url: &Url, response: Response<Incoming>, most: u64, folder: &Path) -> Result<Got, Error> {
    let too_large = || {
        let help = "fetch it by other means, or allow more: `max_size` in forebay.yaml";
        Error::new(format!("{} has more than {most} bytes", shown(url)), help)
    };
    let (head, mut body) = response.into_parts();
    let text = |name| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let length = text(CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|n| n > most) {
        return Err(too_large());
    }
    let file = folder.join(name(url, &head.headers));
    let failed = |e: std::io::Error| Error::file("write", &file, &e);
    let mut out = File::create(&file).map_err(failed)?;
    let mut written = 0;
    loop {
        let broke = |why: String| {
            Error::unreachable(format!("{}: {why}", shown(url)), "try again: nothing was added")
        };
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(e))) => {
                return Err(broke(format!("the connection broke after {written} bytes: {e}")));
            }
            Err(_) => return Err(broke(format!("the server fell silent after {written} bytes"))),
        };
        let Some(data) = frame.data_ref() else { continue };
        written += data.len() as u64;
        if written > most {
            return Err(too_large());
        }
        out.write_all(data).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    let origin = Origin { name: shown(url), etag: text(ETAG), modified: text(LAST_MODIFIED), query: None };
    Ok(Got { file, origin })
}

/// The last part of the address, made a plain name, with the ending that the type says where it has none that is known.
fn name(url: &Url, headers: &HeaderMap) -> String {
    let last = url.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let mut name: String = last.chars().map(plain).take(120).collect();
    name = name.trim_start_matches('.').to_owned();
    if name.is_empty() {
        name = "data".to_owned();
    }
    let ending = name.rsplit_once('.').map_or("", |(_, e)| e).to_ascii_lowercase();
    if matches!(ending.as_str(), "gz" | "gzip" | "zst" | "zstd" | "zip")
        || ending.parse::<data::Format>().is_ok()
    {
        return name;
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let ending = match kind.split(';').next().unwrap_or_default().trim() {
        "text/csv" => ".csv",
        "text/tab-separated-values" => ".tsv",
        "application/json" | "application/x-ndjson" | "application/jsonl" => ".json",
        "application/vnd.apache.parquet" => ".parquet",
        "application/vnd.apache.arrow.file" => ".arrow",
        "application/zip" => ".zip",
        _ => "",
    };
    name + ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_address_and_else_by_its_type() {
        let of = |url: &str, kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            name(&Url::parse(url).unwrap(), &headers)
        };
        assert_eq!(of("https://h/a/flights.csv.gz?x=1", "text/html"), "flights.csv.gz");
        assert_eq!(of("https://h/export", "text/csv; charset=utf-8"), "export.csv");
        assert_eq!(of("https://h/", "application/json"), "data.json");
        assert_eq!(of("https://h/..%2f..%2fetc", "text/plain"), "_2f.._2fetc");
    }

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        let url = Url::parse("https://u:p@h/a.csv?token=s#f").unwrap();
        assert_eq!(shown(&url), "https://h/a.csv");
    }
}
