//! What commands act on: the project's folder, or a running server. Both give the same.

use std::sync::Arc;

use contract::{KeyId, RequestId, RequestRecord, RunId, Secret, SystemClock, TenantId, UnixMillis};
use gateway::{Batches, Jobs, KeyMade, KeyWanted, segment};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use store::{CostBy, CostRow, KeyInfo, NewKey, Reader, Role};

use super::Global;
use super::remote::{Refused, Remote};
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

    /// The newest jobs: with a tenant's key its own ones, with an administrator's and in the folder all. From the beginning,
    /// with the newest batches, whose lines are not among the jobs.
    pub(super) async fn jobs(&self, limit: u32, after: Option<&str>) -> Result<Value, Error> {
        let first = after.is_none();
        let (mut jobs, batches) = match self {
            Source::Folder(reader) => {
                let after = after.map(run_id).transpose()?;
                let jobs = read(at_rest(reader).list(None, after, limit).await)?;
                let batches = match first {
                    true => Some(read(batches_at_rest(reader).list(None, None, limit).await)?),
                    false => None,
                };
                (jobs, batches)
            }
            Source::Server(remote) => {
                let after = after.map_or_else(String::new, |a| format!("&after={}", segment(a)));
                let jobs = own_or_all(remote, "jobs", &format!("?limit={limit}{after}")).await?;
                let batches = match first {
                    true => Some(own_or_all(remote, "batches", &format!("?limit={limit}")).await?),
                    false => None,
                };
                (jobs, batches)
            }
        };
        if let (Some(map), Some(batches)) = (jobs.as_object_mut(), batches) {
            map.insert("batches".to_owned(), batches.get("data").cloned().unwrap_or_default());
        }
        Ok(jobs)
    }

    /// A job or a batch.
    pub(super) async fn job(&self, id: &str) -> Result<Value, Error> {
        match self {
            Source::Folder(reader) if is_batch(id) => {
                read(batches_at_rest(reader).show(batch_id(id)?, None).await)
            }
            Source::Folder(reader) => read(at_rest(reader).show(run_id(id)?, None).await),
            Source::Server(remote) => own_or_any(remote, Method::GET, id, "").await,
        }
    }

    /// Ends a job or a batch.
    pub(super) async fn cancel_job(&self, id: &str) -> Result<Value, Error> {
        match self {
            Source::Folder(reader) if is_batch(id) => {
                read(batches_at_rest(reader).cancel(batch_id(id)?, None).await)
            }
            Source::Folder(reader) => read(at_rest(reader).cancel(run_id(id)?, None).await),
            Source::Server(remote) => own_or_any(remote, Method::POST, id, "/cancel").await,
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

/// The jobs of a folder, whoever works on them.
fn at_rest(reader: &Reader) -> Jobs {
    Jobs::at_rest(reader.runs.clone(), Arc::new(SystemClock::default()))
}

/// The batches of a folder, whoever works on them.
fn batches_at_rest(reader: &Reader) -> Batches {
    Batches::at_rest(reader.batches.clone(), Arc::new(SystemClock::default()))
}

fn is_batch(id: &str) -> bool {
    id.starts_with("batch_")
}

fn batch_id(id: &str) -> Result<RunId, Error> {
    gateway::batch_named(id).map_err(|e| Error::new(e.message, "`forebay jobs list` shows the ids"))
}

/// A list of everybody's for an administrator, else of the key's tenant.
async fn own_or_all(remote: &Remote, what: &str, query: &str) -> Result<Value, Error> {
    match remote.ask(Method::GET, &format!("/v1/admin/{what}{query}"), NOTHING).await? {
        Err(r) if matches!(r.status.as_u16(), 401 | 403) => {
            remote.must(Method::GET, &format!("/v1/{what}{query}"), NOTHING).await
        }
        other => other.map_err(Refused::into_error),
    }
}

fn run_id(id: &str) -> Result<RunId, Error> {
    id.parse().map_err(|e| Error::new(e, "`forebay jobs list` shows the ids"))
}

/// What the folder's jobs said.
fn read(said: Result<String, contract::Error>) -> Result<Value, Error> {
    let help = "`forebay jobs list` shows those there are";
    let text = said.map_err(|e| Error::new(e.message, help))?;
    serde_json::from_str(&text).map_err(|e| Error::new(format!("the job cannot be read: {e}"), "report this"))
}

/// A job or a batch of the key's tenant, or of anybody for an administrator.
async fn own_or_any(remote: &Remote, method: Method, id: &str, what: &str) -> Result<Value, Error> {
    let sort = if is_batch(id) { "batches" } else { "jobs" };
    let of = |place: &str| format!("{place}/{sort}/{}{what}", segment(id));
    match remote.ask(method.clone(), &of("/v1"), NOTHING).await? {
        Err(r) if r.status == StatusCode::NOT_FOUND => {}
        other => return other.map_err(Refused::into_error),
    }
    let any = remote.ask(method, &of("/v1/admin"), NOTHING).await?;
    // Another tenant's, or nobody's: to whom may not know, it does not exist.
    any.map_err(|r| match r.status.as_u16() {
        401 | 403 | 404 => {
            Error::new("there is no job of that id", "`forebay jobs list` shows those there are")
        }
        _ => r.into_error(),
    })
}
