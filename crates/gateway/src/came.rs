//! A request as its handler gets it: its body whole, and with what was found out on the way in, so that nothing is read,
//! checked or copied twice.
//!
//! Invariant: only [`crate::intake`] puts a body here, and behind it there is no other way to one.

use axum::extract::{FromRequest, Request};
use axum::response::Response;
use bytes::Bytes;
use contract::{Code, Error, Surface, Tick};
use http::HeaderMap;

use crate::app::App;
use crate::auth::{self, Caller};
use crate::errors;

/// What was taken in of a request; it goes to the handler with the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// When its head was there, and its body perhaps not yet. Totals and deadlines count from here.
    pub(crate) arrived: Tick,
    /// Who sent the body. Nobody was asked when there is none.
    pub(crate) caller: Option<Caller>,
    pub(crate) body: Bytes,
}

/// What a handler takes of a request that may have a body.
pub(crate) struct Came {
    pub(crate) arrived: Tick,
    caller: Option<Caller>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Came {
    /// Who calls.
    ///
    /// # Errors
    /// Why nobody does who may.
    pub(crate) fn caller(&mut self, app: &App) -> Result<Caller, Error> {
        match self.caller.take() {
            Some(known) => Ok(known),
            None => auth::caller(app, &self.headers),
        }
    }
}

impl Came {
    /// What was taken in, with the headers it came with.
    pub(crate) fn of(taken: Taken, headers: HeaderMap) -> Came {
        let Taken { arrived, caller, body } = taken;
        Came { arrived, caller, headers, body }
    }
}

impl FromRequest<App> for Came {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (parts, _) = request.into_parts();
        let (mut extensions, headers) = (parts.extensions, parts.headers);
        let Some(Taken { arrived, caller, body }) = extensions.remove() else {
            let e = Error::new(Code::Internal, "the body was not taken in; this is a defect");
            return Err(errors::answer(app, Surface::Native, e));
        };
        Ok(Came { arrived, caller, headers, body })
    }
}
