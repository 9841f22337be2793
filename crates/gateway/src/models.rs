//! What there is to call: `GET /v1/models` and `GET /v1/models/{id}`, models and pipelines alike, in the shape of the
//! protocol that asks (Anthropic's clients send `anthropic-version`).

use axum::extract::{Path, State};
use axum::response::Response;
use contract::{Code, Error, ModelName, Surface};
use http::{HeaderMap, StatusCode};
use serde_json::{Value as Json, json};

use crate::app::App;
use crate::errors::Failure;
use crate::openai::json_response;
use crate::request::Target;
use crate::{auth, errors, intake, router};

/// `GET /v1/models`. All of them: there are no further pages.
pub(crate) async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    let surface = asker(&headers);
    if let Err(e) = auth::caller(&app, &headers) {
        return errors::answer(&app, surface, e);
    }
    let all = &app.generation;
    let models = all.models.names();
    let pipelines = all.pipelines.keys().chain(all.choices.keys()).map(|n| n.as_str());
    let names: Vec<&str> = models.iter().map(|n| n.as_str()).chain(pipelines).collect();
    let data: Vec<Json> = names.iter().filter_map(|n| entry(&app, surface, n).ok()).collect();
    let body = match surface {
        Surface::Anthropic => {
            json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
        }
        _ => json!({"object": "list", "data": data}),
    };
    json_response(StatusCode::OK, &body)
}

/// `GET /v1/models/{id}`.
pub(crate) async fn retrieve(
    Path(name): Path<String>,
    State(app): State<App>,
    headers: HeaderMap,
) -> Response {
    let surface = asker(&headers);
    match auth::caller(&app, &headers).and_then(|_| entry(&app, surface, &name)) {
        Ok(model) => json_response(StatusCode::OK, &model),
        Err(e) => errors::answer(&app, surface, e),
    }
}

/// Whose client asks where a path belongs to both.
pub(crate) fn asker(headers: &HeaderMap) -> Surface {
    if headers.contains_key("anthropic-version") { Surface::Anthropic } else { Surface::Openai }
}

/// In whose shape a refusal at this path is written.
fn shape(path: &str, headers: &HeaderMap) -> Surface {
    match intake::surface(path) {
        Surface::Anthropic => Surface::Anthropic,
        _ => asker(headers),
    }
}

fn entry(app: &App, surface: Surface, name: &str) -> Result<Json, Error> {
    let target = router::target(app, &ModelName::from(name))?;
    let since = app.inner.since;
    Ok(match (surface, target) {
        (Surface::Anthropic, target) => {
            let settings = match &target {
                Target::Model(name, _) => app.model(name),
                Target::Pipeline(..) => None,
            };
            json!({
                "type": "model", "id": name, "display_name": name, "created_at": since.rfc3339(),
                "max_input_tokens": settings.as_ref().and_then(|m| m.context_window),
                "max_tokens": settings.as_ref().and_then(|m| m.max_output_tokens),
            })
        }
        (_, target) => {
            let by = if matches!(target, Target::Model(..)) { "model" } else { "pipeline" };
            json!({"id": name, "object": "model", "created": since.0 / 1_000, "owned_by": by})
        }
    })
}

/// Whatever has no address here.
pub(crate) async fn unknown(State(app): State<App>, uri: http::Uri, headers: HeaderMap) -> Response {
    let m = if uri.path().starts_with("/v1/") {
        "there is no such endpoint: see the list in the reference"
    } else {
        "there is nothing here: the API is under /v1/"
    };
    errors::answer(&app, shape(uri.path(), &headers), Error::new(Code::NotFound, m))
}

/// An address that is asked the wrong way.
pub(crate) async fn wrong_method(
    State(app): State<App>,
    method: http::Method,
    uri: http::Uri,
    headers: HeaderMap,
) -> Response {
    errors::answer(&app, shape(uri.path(), &headers), Failure::wrong_method(&method, uri.path()))
}
