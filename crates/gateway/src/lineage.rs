//! `/v1/lineage`: what hangs together with a thing, and events of other programs that tell of more.
//!
//! A tenant sees what its own runs and its own events told; an operator sees all. Events are OpenLineage's (spec 2-0-2), under the
//! path that its clients use by themselves (`/api/v1/lineage`), too. The same event is kept once. What is the project's own is told of
//! by an operator alone; a tenant tells what it made of it elsewhere.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use contract::{Code, Error, Surface, TenantId};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use pipeline::lineage::{Direction, Teller, Walk, Wanted, event, graph};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::app::App;
use crate::came::Came;
use crate::jobs::{answer, storage};
use crate::openai::json_response;
use crate::{admin, auth, drain, errors};

/// The furthest walk.
const DEPTH: u32 = 100;
/// The longest event, in bytes.
const LONGEST: usize = 4 << 20;
/// The longest name of a thing.
const NAME: usize = 2_000;

/// The routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/lineage", get(show).post(take))
        .route("/api/v1/lineage", post(take))
        .route("/v1/admin/lineage", get(show_any))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    of: String,
    #[serde(default)]
    direction: Option<String>,
    #[serde(default)]
    depth: Option<u32>,
    #[serde(default)]
    columns: bool,
}

async fn found(
    app: &App,
    query: Result<Query<Asked>, QueryRejection>,
    tenant: Option<TenantId>,
) -> Result<String, Error> {
    let wrong = |name: &str, message: &str| Error::new(Code::InvalidRequest, message).param(name);
    let Query(asked) = query.map_err(|_| {
        wrong(
            "of",
            "give `of=` a thing, `direction=` up, down or both, `depth=` a number, `columns=` true or false",
        )
    })?;
    let direction = match asked.direction.as_deref() {
        None | Some("both") => Direction::Both,
        Some("up") => Direction::Up,
        Some("down") => Direction::Down,
        Some(_) => return Err(wrong("direction", "`direction` is up, down or both")),
    };
    if asked.of.len() > NAME {
        return Err(wrong("of", "nothing has so long a name"));
    }
    let depth = asked.depth.unwrap_or(10).clamp(1, DEPTH);
    let wanted = Wanted { of: asked.of, direction, depth, columns: asked.columns, tenant };
    let (began, all) = Walk::over(app.inner.reader.lineage.clone()).walk(&wanted).await?;
    Ok(graph(&wanted, &began, &all).to_string())
}

async fn show(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let shown = async {
        let caller = auth::caller(&app, &headers)?;
        found(&app, query, Some(caller.tenant)).await
    };
    answer(&app, shown.await)
}

async fn show_any(
    State(app): State<App>,
    parts: Parts,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let shown = async {
        admin::operator(&app, &parts)?;
        found(&app, query, None).await
    };
    answer(&app, shown.await)
}

async fn take(State(app): State<App>, parts: Parts, mut came: Came) -> Response {
    let taken = async {
        let caller = came.caller(&app)?;
        if app.is_draining() {
            return Err(drain::refusal());
        }
        if came.body.len() > LONGEST {
            let m = format!("the event is longer than {LONGEST} bytes");
            return Err(Error::new(Code::TooLarge, m));
        }
        llm::surface::bounded(&came.body)?;
        let body: Json = serde_json::from_slice(&came.body)
            .map_err(|e| Error::new(Code::InvalidRequest, format!("the body is not JSON: {e}")))?;
        let namespace = &app.generation.settings.lineage;
        let teller = admin::operator(&app, &parts).map_or(Teller::Tenant, |_| Teller::Operator);
        let Some(fact) = event(&body, namespace, (&caller.tenant, teller))? else {
            return Ok(json!({"object": "lineage_event", "kept": false, "new": false}));
        };
        let new = app.inner.reader.lineage.put(&[fact]).await.map_err(storage)?;
        Ok(json!({"object": "lineage_event", "kept": true, "new": new > 0}))
    };
    match taken.await {
        Ok(said) => json_response(StatusCode::CREATED, &said),
        Err(e) => errors::answer(&app, Surface::Native, e),
    }
}
