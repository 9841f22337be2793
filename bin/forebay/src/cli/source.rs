//! What commands act on: the project's folder, or a running server. Both give the same.

use contract::{KeyId, RequestId, RequestRecord, Secret, TenantId, UnixMillis};
use gateway::{KeyMade, KeyWanted};
use http::Method;
use serde::Deserialize;
use store::{CostBy, CostRow, KeyInfo, KeyStore as _, NewKey, Reader, Role};

use super::Global;
use super::remote::Remote;
use super::storage::{self, Need, failed};
use crate::Error;

/// The folder or the server.
pub(super) enum Source {
    Folder(Box<Reader>),
    Server(Box<Remote>),
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<KeyInfo>,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<CostRow>,
}

const NOTHING: Option<&()> = None;

impl Source {
    /// The server when one is named, else the folder.
    pub(super) async fn open(global: &Global, need: Need) -> Result<Source, Error> {
        match Remote::of(global)? {
            Some(remote) => Ok(Source::Server(Box::new(remote))),
            None => Ok(Source::Folder(Box::new(storage::open(global, need).await?))),
        }
    }

    /// Closes what was opened.
    pub(super) async fn close(&self) {
        if let Source::Folder(reader) = self {
            reader.close().await;
        }
    }

    /// Makes a key that is refused `expires_in_ms` from now.
    pub(super) async fn create_key(
        &self,
        name: &str,
        tenant: &str,
        role: Role,
        expires_in_ms: Option<i64>,
        now: UnixMillis,
    ) -> Result<(KeyInfo, Secret), Error> {
        let (name, tenant) = (name.to_owned(), TenantId::from(tenant));
        match self {
            Source::Folder(reader) => {
                let expires_at = expires_in_ms.map(|ms| UnixMillis(now.0.saturating_add(ms)));
                let new = NewKey { name, tenant, role, expires_at };
                store::create_key(&*reader.keys, new, now, store::os_random).await.map_err(failed)
            }
            Source::Server(remote) => {
                let wanted = KeyWanted { name, tenant, role, expires_in_ms };
                let made: KeyMade = remote.must(Method::POST, "/v1/admin/keys", Some(&wanted)).await?;
                Ok((made.info, Secret::new(made.key)))
            }
        }
    }

    /// Every key.
    pub(super) async fn keys(&self) -> Result<Vec<KeyInfo>, Error> {
        match self {
            Source::Folder(reader) => reader.keys.list().await.map_err(failed),
            Source::Server(remote) => {
                Ok(remote.must::<Keys>(Method::GET, "/v1/admin/keys", NOTHING).await?.keys)
            }
        }
    }

    /// Revokes a key.
    pub(super) async fn revoke_key(&self, id: &str, now: UnixMillis) -> Result<KeyInfo, Error> {
        match self {
            Source::Folder(reader) => reader.keys.revoke(&KeyId::from(id), now).await.map_err(failed),
            Source::Server(remote) => {
                let path = format!("/v1/admin/keys/{}", segment(id));
                let revoked = remote.ask(Method::DELETE, &path, NOTHING).await?;
                revoked.map_err(|r| match r.status.as_u16() {
                    404 => Error::new(
                        format!("cannot find the key `{}`", storage::clean(id)),
                        "`forebay key list` shows those there are",
                    ),
                    _ => r.into_error(),
                })
            }
        }
    }

    /// What was spent since `from`.
    pub(super) async fn costs(&self, by: CostBy, from: UnixMillis) -> Result<Vec<CostRow>, Error> {
        match self {
            Source::Folder(reader) => reader.costs(by, from, UnixMillis(i64::MAX)).await.map_err(failed),
            Source::Server(remote) => {
                let name = serde_json::to_value(by).ok().and_then(|v| v.as_str().map(str::to_owned));
                let path = format!("/v1/admin/costs?by={}&since={}", name.unwrap_or_default(), from.0);
                Ok(remote.must::<Rows>(Method::GET, &path, NOTHING).await?.rows)
            }
        }
    }

    /// The record of a request: with a tenant's key of its own ones, with an administrator's of all.
    pub(super) async fn record(&self, id: RequestId) -> Result<Option<RequestRecord>, Error> {
        let remote = match self {
            Source::Folder(reader) => return reader.get(id).await.map_err(failed),
            Source::Server(remote) => remote,
        };
        for path in [format!("/v1/requests/{id}"), format!("/v1/admin/requests/{id}")] {
            match remote.ask(Method::GET, &path, NOTHING).await? {
                Ok(record) => return Ok(Some(record)),
                // Another tenant's, or nobody's: to whom may not know, it does not exist.
                Err(r) if matches!(r.status.as_u16(), 403 | 404) => {}
                Err(r) => return Err(r.into_error()),
            }
        }
        Ok(None)
    }
}

/// Text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::segment;

    proptest! {
        #[test]
        fn any_text_is_one_segment_of_a_path(text in ".*") {
            let made = segment(&text);
            prop_assert!(!made.contains(['/', '?', '#', ' ']));
            let path = format!("/v1/{made}");
            prop_assert!(path.parse::<http::Uri>().is_ok());
        }
    }
}
