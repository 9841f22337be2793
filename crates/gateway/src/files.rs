//! OpenAI's files: `/v1/files`. A file belongs to a tenant, and to no other it is there; what a tenant holds is bounded.
//!
//! Nothing is asked of a model and nothing is charged: there is no record of it in the ledger.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Multipart, Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use contract::{Code, Error, RetryHint, Surface, TenantId, UnixMillis};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use store::{FileInfo, FilePage};

use crate::app::App;
use crate::came::Came;
use crate::openai::json_response;
use crate::{auth, errors, headers, upload};

/// What files are for.
const PURPOSES: [&str; 2] = ["batch", "user_data"];
/// The longest name that is kept, in bytes.
const MAX_NAME: usize = 255;
/// Seconds from an hour to thirty days: how long a file may stay that is not to stay for good.
const STAYS: std::ops::RangeInclusive<i64> = 3_600..=2_592_000;
/// A page has so many at most, and unless told.
const PAGE: u32 = 10_000;

/// `POST /v1/files`.
pub(crate) async fn upload(State(app): State<App>, mut came: Came) -> Response {
    let put = async {
        let tenant = came.caller(&app)?.tenant;
        let Came { headers, body, .. } = came;
        let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let upload = form(kind, body).await?;
        let id = app.request_id().to_string();
        let created_at = app.inner.clock.wall();
        let info = FileInfo {
            id: format!("file-{}", id.trim_start_matches("req_")),
            name: upload.name,
            purpose: upload.purpose,
            bytes: upload.content.len() as u64,
            created_at,
            expires_at: upload.stays.map(|s| UnixMillis(created_at.0.saturating_add(s * 1_000))),
        };
        let limit = app.generation.settings.limits.files_bytes;
        kept(&tenant, app.inner.files.put(&tenant, &info, upload.content, limit).await)?;
        Ok(json_response(StatusCode::OK, &object(&info)))
    };
    answer(&app, put.await)
}

/// `GET /v1/files`.
pub(crate) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let list = async {
        let tenant = auth::caller(&app, &headers)?.tenant;
        let Query(wanted) = query.map_err(|_| {
            Error::new(Code::InvalidRequest, format!("`limit` must be an integer from 1 to {PAGE}"))
                .param("limit")
        })?;
        let now = app.inner.clock.wall();
        let (all, more) = kept(&tenant, app.inner.files.list(&tenant, &wanted.page()?, now).await)?;
        let data: Vec<Json> = all.iter().map(object).collect();
        let (first, last) = (all.first().map(|f| &f.id), all.last().map(|f| &f.id));
        let body =
            json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more});
        Ok(json_response(StatusCode::OK, &body))
    };
    answer(&app, list.await)
}

/// `GET /v1/files/{id}`.
pub(crate) async fn retrieve(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let get = async {
        let tenant = auth::caller(&app, &headers)?.tenant;
        let found = app.inner.files.get(&tenant, &id, app.inner.clock.wall()).await;
        let info = kept(&tenant, found)?.ok_or_else(missing)?;
        Ok(json_response(StatusCode::OK, &object(&info)))
    };
    answer(&app, get.await)
}

/// How much of a content is read at once, in bytes.
const PIECE: usize = 256 << 10;

/// `GET /v1/files/{id}/content`. A piece of it is in memory at a time, so that it takes no place in the room of bodies.
pub(crate) async fn content(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let read = async {
        let tenant = auth::caller(&app, &headers)?.tenant;
        let (files, now) = (app.inner.files.clone(), app.inner.clock.wall());
        let info = kept(&tenant, files.get(&tenant, &id, now).await)?.ok_or_else(missing)?;
        let length = info.bytes;
        // The first piece is there before the status is said.
        let first = kept(&tenant, files.read_at(&tenant, &id, 0, PIECE, now).await)?.ok_or_else(missing)?;
        let behind = first.len() as u64;
        let rest = futures_util::stream::try_unfold(behind, move |from| {
            let (files, tenant, id) = (files.clone(), tenant.clone(), id.clone());
            async move {
                if from >= length {
                    return Ok(None);
                }
                match files.read_at(&tenant, &id, from, PIECE, now).await {
                    Ok(Some(piece)) if !piece.is_empty() => {
                        let behind = from + piece.len() as u64;
                        Ok(Some((piece, behind)))
                    }
                    // Deleted since: half a content is none.
                    Ok(_) => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                    Err(e) => Err(std::io::Error::other(e)),
                }
            }
        });
        let whole = futures_util::stream::once(std::future::ready(Ok(first))).chain(rest);
        let mut r = Response::new(Body::from_stream(whole));
        r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        r.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        Ok(r)
    };
    answer(&app, read.await)
}

/// `DELETE /v1/files/{id}`.
pub(crate) async fn delete(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let delete = async {
        let tenant = auth::caller(&app, &headers)?.tenant;
        let gone = app.inner.files.delete(&tenant, &id, app.inner.clock.wall()).await;
        if !kept(&tenant, gone)? {
            return Err(missing());
        }
        Ok(json_response(StatusCode::OK, &json!({"id": id, "object": "file", "deleted": true})))
    };
    answer(&app, delete.await)
}

fn answer(app: &App, result: Result<Response, Error>) -> Response {
    match result {
        Ok(mut r) => {
            headers::request_id(app.request_id(), Surface::Openai, r.headers_mut());
            r
        }
        Err(e) => errors::answer(app, Surface::Openai, e),
    }
}

fn missing() -> Error {
    Error::new(Code::NotFound, "there is no file of that id: GET /v1/files lists them")
}

/// What became of it, without a word about this machine.
fn kept<T>(tenant: &TenantId, result: Result<T, store::Error>) -> Result<T, Error> {
    result.map_err(|e| match e {
        store::Error::FilesFull { limit } => {
            let m = format!(
                "the files of this tenant may take {limit} bytes together: delete some, or send a smaller one"
            );
            Error::new(Code::TooLarge, m).param("file").limit_source(format!("tenant:{tenant}"))
        }
        e => {
            tracing::error!(error = %e, "failed to use the files");
            let m = "the files cannot be read or written now: ask again in a moment";
            Error::new(Code::StorageUnavailable, m).retry(RetryHint::After(Duration::from_secs(5)))
        }
    })
}

fn object(f: &FileInfo) -> Json {
    json!({
        "id": f.id, "object": "file", "bytes": f.bytes, "created_at": f.created_at.0 / 1_000,
        "expires_at": f.expires_at.map(|t| t.0 / 1_000), "filename": f.name, "purpose": f.purpose,
        "status": "processed",
    })
}

/// What a caller wants listed.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    purpose: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
    order: Option<String>,
}

impl Wanted {
    fn page(self) -> Result<FilePage, Error> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            let m = format!("`limit` must be an integer from 1 to {PAGE}");
            return Err(Error::new(Code::InvalidRequest, m).param("limit"));
        }
        let ascending = match self.order.as_deref() {
            None | Some("desc") => false,
            Some("asc") => true,
            Some(_) => {
                return Err(Error::new(Code::InvalidRequest, "`order` must be asc or desc").param("order"));
            }
        };
        Ok(FilePage { purpose: self.purpose, after: self.after, limit, ascending })
    }
}

/// What a form held.
struct Upload {
    content: Bytes,
    name: String,
    purpose: String,
    /// Seconds until it goes.
    stays: Option<i64>,
}

/// Reads the form. It waits for nothing: the body is whole.
async fn form(content_type: &str, body: Bytes) -> Result<Upload, Error> {
    let wrong = |param: &str, m: &str| Error::new(Code::InvalidRequest, m).param(param);
    let broken =
        || wrong("file", "the form cannot be read: send it as multipart/form-data with `file` and `purpose`");
    let request = upload::form_request(content_type, body).map_err(|_| broken())?;
    let mut parts = Multipart::from_request(request, &()).await.map_err(|_| broken())?;
    let (mut file, mut purpose, mut anchor, mut seconds) = (None, None, None, None);
    while let Some(part) = parts.next_field().await.map_err(|_| broken())? {
        let slot = match part.name() {
            Some("file") => {
                let name = part.file_name().unwrap_or("file").to_owned();
                file = Some((name, part.bytes().await.map_err(|_| broken())?));
                continue;
            }
            Some("purpose") => &mut purpose,
            Some("expires_after[anchor]") => &mut anchor,
            Some("expires_after[seconds]") => &mut seconds,
            _ => {
                let m = "the form has a part that is none of `file`, `purpose` and `expires_after`";
                return Err(wrong("file", m));
            }
        };
        *slot = Some(part.text().await.map_err(|_| broken())?);
    }
    let (name, content) = file.ok_or_else(|| wrong("file", "the form has no part `file`"))?;
    if content.is_empty() {
        return Err(wrong("file", "the file is empty"));
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(wrong("file", "the name of the file must have from 1 to 255 bytes"));
    }
    let purpose = purpose.filter(|p| PURPOSES.contains(&p.as_str()));
    let purpose = purpose.ok_or_else(|| wrong("purpose", "`purpose` must be batch or user_data"))?;
    let stays = match (anchor.as_deref(), seconds) {
        (None, None) => None,
        (Some("created_at"), Some(s)) => {
            Some(s.parse().ok().filter(|s| STAYS.contains(s)).ok_or_else(|| {
                let m = "`expires_after.seconds` must be an integer from 3600 to 2592000";
                wrong("expires_after.seconds", m)
            })?)
        }
        _ => {
            let m = "`expires_after` must have the anchor created_at, and seconds";
            return Err(wrong("expires_after.anchor", m));
        }
    };
    Ok(Upload { content, name, purpose, stays })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_s_form_may_be_as_large_as_any_body() {
        let file = "x".repeat(3 << 20);
        let text = format!(
            "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n{file}\r\n--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b--\r\n"
        );
        let read = form("multipart/form-data; boundary=b", text.into()).await.unwrap();
        assert_eq!(read.content.len(), file.len());
    }
}
