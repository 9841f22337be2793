//! Stages that reach outside: `http` asks an address, `notify` tells somebody. Both make their effect under the attempt's key, so
//! that whoever is asked twice can know it.
//!
//! Neither opens a connection: who does is a [`Call`], which the binary gives, and which goes to public addresses only unless the
//! configuration allows others. Texts are templates over `run.id`, `pipeline`, `stage` and `inputs.NAME`.

mod http;
mod notify;
mod template;

use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Code, Error, RetryHint};
use store::RunStore;

use crate::registry::Problem;
use crate::runs::Deliver;
pub use http::HttpKind;
pub use notify::NotifyKind;

/// What `http` and `notify` stages are made of. For a check of a configuration, in which nothing runs, there need be nothing.
#[derive(Clone, Default)]
pub struct Outside {
    /// Who asks addresses.
    pub call: Option<Arc<dyn Call>>,
    /// Who brings webhooks, and where it stands which secrets they are signed with.
    pub webhooks: Option<(Arc<dyn Deliver>, Arc<dyn RunStore>)>,
}

/// What is asked.
#[derive(Clone)]
pub struct Asked {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// To where.
    pub url: String,
    /// Names and values; they may hold secrets.
    pub headers: Vec<(String, String)>,
    /// What is sent along.
    pub body: Vec<u8>,
    /// How long it may take.
    pub timeout: Duration,
    /// How much of the answer is read, in bytes.
    pub at_most: usize,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// An answer, whatever it says.
    Answer {
        /// Its status.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// What it says.
        body: Vec<u8>,
        /// There is more than was to be read.
        cut: bool,
    },
    /// Nobody answered within the time.
    Late,
    /// It could not be asked; perhaps later.
    Unreachable(String),
    /// It may not be asked.
    Forbidden(String),
}

/// Asks addresses. It follows no redirect: who is asked is who was named.
pub trait Call: Send + Sync {
    /// Why that address cannot be asked, as far as it can be said without asking.
    ///
    /// # Errors
    /// The reason, in words for who gave the address.
    fn check(&self, url: &str) -> Result<(), String>;

    /// Asks. Ends within the time that is given.
    fn call(&self, asked: Asked) -> BoxFuture<'_, Came>;
}

/// What an answer means that was not expected.
fn unexpected(status: u16, retry_after: Option<Duration>) -> Error {
    let after = RetryHint::After(retry_after.unwrap_or_default());
    let e = match status {
        429 => Error::new(Code::RateLimited, "the address answered 429: it is asked too often").retry(after),
        408 | 425 | 500..=599 => {
            Error::new(Code::UpstreamError, format!("the address answered {status}")).retry(after)
        }
        300..=399 => {
            let m = format!(
                "the address answered {status}: it is elsewhere, and nobody follows it there; correct the address"
            );
            Error::new(Code::InvalidRequest, m)
        }
        401 | 403 | 407 => Error::new(
            Code::Forbidden,
            format!("the address answered {status}: check the credentials that it is sent"),
        ),
        _ => {
            Error::new(Code::InvalidRequest, format!("the address answered {status}, which is not expected"))
        }
    };
    e.upstream_status(status)
}

/// Asks, and gives the body when the status is expected.
async fn ask(
    call: Option<&Arc<dyn Call>>,
    asked: Asked,
    is_expected: impl Fn(u16) -> bool,
) -> Result<(u16, Vec<u8>), Error> {
    let Some(call) = call else {
        return Err(Error::new(Code::Internal, "nobody is there who could ask an address"));
    };
    let timeout = asked.timeout;
    match call.call(asked).await {
        Came::Answer { status, body, cut, .. } if is_expected(status) => match cut {
            false => Ok((status, body)),
            true => Err(Error::new(Code::TooLarge, "the answer is longer than `at_most`")),
        },
        Came::Answer { status, retry_after, .. } => Err(unexpected(status, retry_after)),
        Came::Late => Err(Error::new(
            Code::UpstreamTimeout,
            format!("the address did not answer within {timeout:?} (`timeout`)"),
        )),
        Came::Unreachable(why) => Err(Error::new(Code::UpstreamUnreachable, why)),
        Came::Forbidden(why) => {
            Err(Error::new(Code::Forbidden, format!("the address may not be asked: {why}")))
        }
    }
}

fn problem(pointer: &str, message: impl Into<String>, remedy: &str) -> Problem {
    Problem { pointer: pointer.to_owned(), message: message.into(), remedy: remedy.to_owned() }
}

/// The host that a URL names, for logs: the rest may hold secrets.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}
