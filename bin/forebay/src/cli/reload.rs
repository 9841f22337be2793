//! `forebay reload`: a running server loads its configuration again, or says why it does not.

use std::io::Write as _;

use bytes::Bytes;
use gateway::{ConfigRefusal, Reloaded};
use http::{Method, Request, StatusCode};
use serde::Deserialize;

use super::Global;
use super::client::whole;
use super::remote::{Refused, Remote};
use super::{block_on, print, print_json};
use crate::Error;

/// The longest answer.
const LIMIT: usize = 4 << 20;

#[derive(Deserialize)]
struct Said {
    refused: ConfigRefusal,
}

pub(super) fn run(global: &Global) -> Result<(), Error> {
    let remote = Remote::of(global)?.ok_or_else(|| {
        Error::new("no server is named", "name it by --server or FOREBAY_URL, such as http://127.0.0.1:8080")
    })?;
    block_on(reload(global, &remote))
}

async fn reload(global: &Global, remote: &Remote) -> Result<(), Error> {
    let wrong = |e: &dyn std::fmt::Display| {
        let message = format!("the server at {} answers something else: {e}", remote.base());
        Error::new(message, "check that --server is a Forebay of this version")
    };
    let request = Request::builder().method(Method::POST).uri("/v1/admin/reload");
    let request = request.body(Bytes::new()).map_err(|e| wrong(&e))?;
    let (head, body) = remote.send(request).await?.into_parts();
    let body = whole(body, LIMIT).await?;
    if head.status == StatusCode::UNPROCESSABLE_ENTITY {
        let Said { refused } = serde_json::from_slice(&body).map_err(|e| wrong(&e))?;
        return refusal(global, &refused);
    }
    if !head.status.is_success() {
        return Err(Refused::read(head.status, &body).into_error());
    }
    let done: Reloaded = serde_json::from_slice(&body).map_err(|e| wrong(&e))?;
    if global.json {
        return print_json(&done);
    }
    print(&format!("version {} is in force", done.config.version));
    done.changed.iter().for_each(|c| print(&format!("  {c}")));
    done.config.needs_restart.iter().for_each(|s| print(&format!("  {s}: needs a restart")));
    Ok(())
}

/// The server's problems as `forebay check` shows one's own.
fn refusal(global: &Global, refused: &ConfigRefusal) -> Result<(), Error> {
    if global.json {
        print_json(refused)?;
        return Err(Error::Invalid);
    }
    let lines = refused.message.lines().map(super::storage::clean);
    for line in lines {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    let _ =
        writeln!(std::io::stderr(), "the server refuses the configuration and goes on with the one before");
    Err(Error::Invalid)
}
