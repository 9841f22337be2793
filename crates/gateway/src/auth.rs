//! Who calls: `Authorization: Bearer` or `x-api-key`, to a key, to a tenant.

use contract::{Code, Error, KeyId, TenantId, TraceContext};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::app::App;

/// A caller that may come in.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) key: Option<KeyId>,
    /// The trace that its call is part of.
    pub(crate) trace: Option<TraceContext>,
}

/// Checks the key. The answer is the same for a missing, unknown, revoked and malformed one but for the first.
pub(crate) fn caller(app: &App, headers: &HeaderMap) -> Result<Caller, Error> {
    let trace = crate::telemetry::caller(headers);
    let Some(presented) = presented(headers) else {
        if app.inner.settings.auth_required {
            let m = "no API key was given: send `Authorization: Bearer <key>` or `x-api-key: <key>`";
            return Err(Error::new(Code::InvalidKey, m));
        }
        return Ok(Caller { tenant: App::open_tenant(), key: None, trace });
    };
    match app.inner.keys.check(presented, app.inner.clock.wall()) {
        Ok(info) => Ok(Caller { tenant: info.tenant.clone(), key: Some(info.id.clone()), trace }),
        // An open server takes whatever placeholder an SDK insists on, but never a key that was revoked.
        Err(store::Refusal::Malformed) if !app.inner.settings.auth_required => {
            Ok(Caller { tenant: App::open_tenant(), key: None, trace })
        }
        Err(_) => Err(Error::new(
            Code::InvalidKey,
            "the API key is not valid; `forebay key list` shows those that are",
        )),
    }
}

/// The key as it was sent.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get("x-api-key") {
        return value.to_str().ok();
    }
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
