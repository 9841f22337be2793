//! A file over HTTP into `NAME.part`: redirects, ranges, and another try where the connection broke.
//!
//! What is there of an earlier try is used only while the server says that the file is still the same one (its entity
//! tag, kept in `NAME.part.json`). A token is sent to the host it is meant for and to no other.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use contract::Secret;
use http::header::{
    AUTHORIZATION, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use url::Url;

use super::super::client::{Body, Client};
use super::super::storage::clean;
use super::pull::bar;
use crate::Error;

const REDIRECTS: usize = 10;
const TRIES: usize = 5;
/// A server that sends nothing for so long has lost the connection.
const SILENCE: Duration = Duration::from_secs(60);
const HELP: &str = "run the same command again: it goes on where it stopped";

/// What is to be fetched.
#[derive(Debug, PartialEq)]
pub(super) struct Download {
    url: Url,
    token: Option<Secret>,
}

/// What is known of a part.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Notes {
    url: String,
    /// The entity tag, or when it was last changed.
    version: String,
}

impl Download {
    pub(super) fn new(url: &str, token: Option<String>) -> Result<Self, Error> {
        let url = Url::parse(url).map_err(|e| {
            Error::new(
                format!("`{}` is no address: {e}", clean(url)),
                "write it as https://HOST/PATH/FILE.gguf",
            )
        })?;
        Ok(Download { url, token: token.map(Secret::new) })
    }

    pub(super) fn file_name(&self) -> Option<String> {
        self.url.path_segments()?.next_back().map(str::to_owned)
    }

    #[cfg(test)]
    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    #[cfg(test)]
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Without its query, which may hold a signature.
    fn shown(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        clean(&format!("{host}{}", self.url.path()))
    }
}

/// Where the notes of a part are.
pub(super) fn notes(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// Fetches everything.
///
/// # Errors
/// When it cannot be had after several tries; what is there stays for the next command.
pub(super) async fn fetch(download: &Download, part: &Path) -> Result<(), Error> {
    let client = Client::new();
    let mut last = None;
    for n in 0..TRIES {
        if n > 0 {
            // 1, 2, 4, 8 seconds.
            tokio::time::sleep(Duration::from_secs(1 << (n - 1))).await;
        }
        match once(&client, download, part).await {
            Ok(()) => return Ok(()),
            Err(Try::Over(e)) => return Err(e),
            Err(Try::Again(why)) => last = Some(why),
        }
    }
    let why = last.unwrap_or_default();
    Err(Error::new(format!("cannot fetch {}: {why}", download.shown()), HELP))
}

/// Why a try failed.
enum Try {
    /// Another one may help.
    Again(String),
    /// None will.
    Over(Error),
}

impl From<Error> for Try {
    fn from(e: Error) -> Self {
        Try::Over(e)
    }
}

async fn once(client: &Client, download: &Download, part: &Path) -> Result<(), Try> {
    let old = known(download, part);
    let have = old.as_ref().map_or(0, |(_, bytes)| *bytes);
    let response = ask(client, download, old.as_ref()).await?;
    let (head, body) = response.into_parts();
    let header = |name| head.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let start = match head.status {
        StatusCode::PARTIAL_CONTENT => match header(CONTENT_RANGE).and_then(range) {
            Some((start, _)) if start == have => have,
            _ => return restart(part, "the server gave another range"),
        },
        StatusCode::OK => 0,
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return match header(CONTENT_RANGE).and_then(|v| v.strip_prefix("bytes */")?.parse::<u64>().ok()) {
                Some(all) if all == have && have > 0 => Ok(()),
                _ => restart(part, "the file there is another one now"),
            };
        }
        status => return Err(refused(download, status)),
    };
    let whole = match header(CONTENT_RANGE).and_then(range) {
        Some((_, whole)) => whole,
        None => header(http::header::CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok()),
    };
    let mut file = open(part, start)?;
    note(download, part, &head.headers, start)?;
    let bar = bar(whole.unwrap_or(0), start);
    let written = write(body, &mut file, part, &bar).await;
    bar.finish_and_clear();
    let bytes = start + written?;
    match whole {
        Some(whole) if bytes < whole => {
            Err(Try::Again(format!("the connection ended after {bytes} of {whole} bytes")))
        }
        _ => Ok(()),
    }
}

/// Forgets the part; the next try begins at the beginning.
fn restart(part: &Path, why: &str) -> Result<(), Try> {
    let _ = (std::fs::remove_file(part), std::fs::remove_file(notes(part)));
    Err(Try::Again(why.to_owned()))
}

/// What is there of the same file: its version and how many bytes.
fn known(download: &Download, part: &Path) -> Option<(Notes, u64)> {
    let bytes = std::fs::metadata(part).ok()?.len();
    let notes: Notes = serde_json::from_slice(&std::fs::read(notes(part)).ok()?).ok()?;
    (bytes > 0 && notes.url == download.url.as_str() && !notes.version.is_empty()).then_some((notes, bytes))
}

/// Writes down what is being fetched, before its first byte.
fn note(download: &Download, part: &Path, headers: &HeaderMap, start: u64) -> Result<(), Error> {
    if start > 0 {
        return Ok(());
    }
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    // A weak tag does not promise equal bytes.
    let tag = text(ETAG).filter(|t| !t.starts_with("W/"));
    let version = tag.or_else(|| text(LAST_MODIFIED)).unwrap_or_default().to_owned();
    let written = Notes { url: download.url.to_string(), version };
    let path = notes(part);
    let json = serde_json::to_vec(&written).unwrap_or_default();
    std::fs::write(&path, json).map_err(|e| Error::file("write", &path, &e))
}

fn open(part: &Path, start: u64) -> Result<File, Error> {
    let opened = match start {
        0 => File::create(part),
        _ => OpenOptions::new().append(true).open(part),
    };
    opened.map_err(|e| Error::file("write", part, &e))
}

/// `bytes 100-199/200`: where it starts, and how long the whole is.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, whole.parse().ok()))
}

async fn write(mut body: Body, file: &mut File, part: &Path, bar: &ProgressBar) -> Result<u64, Try> {
    let mut bytes = 0;
    loop {
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(e))) => return Err(Try::Again(format!("the connection broke: {e}"))),
            Err(_) => return Err(Try::Again("the server fell silent".to_owned())),
        };
        let Some(data) = frame.data_ref() else { continue };
        // What was written stays: with room on the disk the next command goes on from it.
        file.write_all(data).map_err(|e| Try::Over(Error::file("write", part, &e)))?;
        bytes += data.len() as u64;
        bar.inc(data.len() as u64);
    }
    Ok(bytes)
}

async fn ask(
    client: &Client,
    download: &Download,
    old: Option<&(Notes, u64)>,
) -> Result<Response<Body>, Try> {
    let mut url = download.url.clone();
    for _ in 0..REDIRECTS {
        let mut request = Request::get(url.as_str()).header(USER_AGENT, "forebay");
        if let Some((notes, bytes)) = old {
            request =
                request.header(RANGE, format!("bytes={bytes}-")).header(IF_RANGE, notes.version.as_str());
        }
        let same = url.origin() == download.url.origin();
        if let Some(token) = download.token.as_ref().filter(|_| same)
            && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        {
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let wrong =
            |e: http::Error| Error::new(format!("the address makes no request: {e}"), "check the source");
        let request = request.body(Bytes::new()).map_err(wrong)?;
        let response = match client.send(request).await {
            Ok(response) => response,
            Err(e) => return Err(Try::Again(e.to_string())),
        };
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let to = response.headers().get(LOCATION).and_then(|v| v.to_str().ok());
        let next = to.and_then(|to| url.join(to).ok()).filter(|u| matches!(u.scheme(), "http" | "https"));
        let nowhere =
            || Error::new(format!("{} redirects to nowhere", download.shown()), "check the address");
        let next = next.ok_or_else(nowhere)?;
        if url.scheme() == "https" && next.scheme() == "http" {
            let message = format!("{} redirects to an address without TLS", download.shown());
            return Err(Error::new(message, "give that address itself if you trust it").into());
        }
        url = next;
    }
    Err(Error::new(format!("{} redirects in a circle", download.shown()), "check the address").into())
}

fn refused(download: &Download, status: StatusCode) -> Try {
    let what = format!("{} answers with status {status}", download.shown());
    match status.as_u16() {
        401 | 403 => {
            Error::new(what, "a hub's closed models need HF_TOKEN, and their terms accepted on its site")
                .into()
        }
        404 | 410 => Error::new(what, "check the names: owner, repository and file").into(),
        408 | 425 | 429 | 500..=599 => Try::Again(format!("status {status}")),
        _ => Error::new(what, "check the address").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_where_it_starts_and_how_long_the_whole_is() {
        assert_eq!(range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(range("bytes 0-9/*"), Some((0, None)));
        assert_eq!(range("lines 0-9/10"), None);
    }

    #[test]
    fn a_part_of_another_file_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("m.gguf.part");
        let one = Download::new("http://a.example/m.gguf", None).unwrap();
        let two = Download::new("http://b.example/m.gguf", None).unwrap();
        std::fs::write(&part, b"half").unwrap();
        assert!(known(&one, &part).is_none(), "nothing is known of it");
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("\"v1\""));
        note(&one, &part, &headers, 0).unwrap();
        assert_eq!(known(&one, &part).map(|(n, bytes)| (n.version, bytes)), Some(("\"v1\"".into(), 4)));
        assert!(known(&two, &part).is_none());
        headers.insert(ETAG, HeaderValue::from_static("W/\"v1\""));
        note(&one, &part, &headers, 0).unwrap();
        assert!(known(&one, &part).is_none(), "a weak tag promises nothing");
    }
}
