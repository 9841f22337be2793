//! A running server as commands see it: its address, the key, and its errors with a remedy.

use bytes::Bytes;
use contract::Secret;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Global;
use super::client::{Body, Client, whole};
use super::storage::clean;
use crate::Error;

/// The largest answer that is read whole: a ledger record with all its attempts fits many times.
const ANSWER_LIMIT: usize = 64 << 20;

/// A server and what to present to it.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    client: Client,
    base: String,
    key: Option<Secret>,
}

/// What a server said instead of an answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Remote {
    /// The server that the command line or the environment names.
    pub(super) fn of(global: &Global) -> Result<Option<Remote>, Error> {
        global.server().map(|base| Remote::at(base, global.key().cloned())).transpose()
    }

    /// The server at an address.
    pub(super) fn at(base: &str, key: Option<Secret>) -> Result<Remote, Error> {
        let wrong = |why: &str| {
            let message = format!("`{}` is not a server's address: {why}", clean(base));
            Error::new(message, "write it as http://127.0.0.1:8080")
        };
        let uri: Uri = base.parse().map_err(|_| wrong("it cannot be read"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins with neither http:// nor https://"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong("it names no host"));
        }
        if uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@')) {
            return Err(wrong("it may have no user and no query; a key is given by FOREBAY_API_KEY"));
        }
        let base = base.trim_end_matches('/').to_owned();
        Ok(Remote { client: Client::new(), base, key })
    }

    /// Its address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request to a path.
    pub(super) async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let target = format!("{}{}", self.base, request.uri());
        *request.uri_mut() = target.parse().map_err(|_| {
            Error::new(format!("`{}` is no address", clean(&target)), "check --server and the names given")
        })?;
        present(&mut request, self.key.as_ref())?;
        self.client.send(request).await
    }

    /// Asks for JSON; `Err(Refused)` inside when the server has another status than a good one.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Result<T, Refused>, Error> {
        let report = |e: serde_json::Error| {
            let message = format!("the server at {} answers something else: {e}", self.base);
            Error::new(message, "check that --server is a Forebay of this version")
        };
        let mut request = Request::builder().method(method).uri(path).header(ACCEPT, "application/json");
        let bytes = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(report)?.into()
            }
            None => Bytes::new(),
        };
        let request = request
            .body(bytes)
            .map_err(|e| Error::new(format!("cannot ask the server: {e}"), "check the names given"))?;
        let (head, body) = self.send(request).await?.into_parts();
        let bytes = whole(body, ANSWER_LIMIT).await?;
        if head.status.is_success() {
            return serde_json::from_slice(&bytes).map(Ok).map_err(report);
        }
        Ok(Err(Refused::read(head.status, &bytes)))
    }

    /// The same for commands that have nothing else to try.
    pub(super) async fn must<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, Error> {
        self.ask(method, path, body).await?.map_err(Refused::into_error)
    }
}

/// Puts the key into a request.
pub(super) fn present(request: &mut Request<Bytes>, key: Option<&Secret>) -> Result<(), Error> {
    let Some(key) = key else { return Ok(()) };
    let value = HeaderValue::try_from(format!("Bearer {}", key.expose()));
    // The key itself is not repeated.
    let mut value = value.map_err(|_| {
        Error::new("the API key has characters that no key has", "check FOREBAY_API_KEY and --key")
    })?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

impl Refused {
    /// What a status and its body say.
    pub(super) fn read(status: StatusCode, body: &[u8]) -> Refused {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = json.pointer("/error/message").and_then(Value::as_str).map(clean);
        let message = text.unwrap_or_else(|| format!("the server answers with status {status}"));
        Refused { status, message }
    }

    /// The failure and what to do about it.
    pub(super) fn into_error(self) -> Error {
        let help = match self.status.as_u16() {
            401 => "give a key by FOREBAY_API_KEY or --key; `forebay key create` makes one",
            402 => "wait until requests under way have ended, or raise the budget",
            403 => "use an administrator's key, or ask who runs the server",
            404 => "check the name, and that --server is a Forebay of this version",
            413 => "give a smaller document, or raise `server.limits`",
            429 => "try again in a moment",
            400..=499 => "correct what was given",
            _ => "see the server's log, then try again",
        };
        Error::new(self.message, help)
    }
}
