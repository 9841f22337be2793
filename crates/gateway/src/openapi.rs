//! `GET /openapi.json`: every route of the router, as OpenAPI 3.1 describes it.
//!
//! The surfaces read and write bodies by hand, so that no handler's signature says what they are: [`operations`] describes
//! each route, [`schemas`] each body. Tests hold the first to the router, both ways, the second to what the surfaces write,
//! and the copy in `docs/reference` to both.

mod admin;
mod batches;
mod events;
mod features;
mod feedback;
mod files;
mod inference;
mod jobs;
mod lineage;
mod operations;
mod runs;
mod schemas;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use self::operations::Operations;
use crate::app::App;
use crate::openai::json_response;

/// The path that every pipeline has.
const PIPELINE: &str = "/v1/pipelines/{name}";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Forebay",
        description = "An AI gateway and its pipelines: the protocols of OpenAI and Anthropic, and the pipelines' own.\n\n\
            A request may be refused before it is looked at: 408 when its body comes too slowly, 413 when it is too long, \
            405 when the method is not for the path, 431 when its headers are too long.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(
        schemas::ChatCompletionRequest, schemas::ChatCompletion, schemas::ChatChunk,
        schemas::CompletionRequest, schemas::TextCompletion, schemas::TextChunk,
        schemas::ResponseRequest, schemas::ResponseObject, schemas::ResponseEvent, schemas::ResponseDeleted,
        schemas::FileForm, schemas::FileObject, schemas::Files, schemas::FileDeleted,
        schemas::BatchRequest, schemas::Batch, schemas::Batches,
        schemas::OnlineFeaturesRequest, schemas::OnlineFeatures, schemas::FeaturePush, schemas::FeatureWrite,
        schemas::FeatureMaterialize, schemas::FeaturesTaken, schemas::FeaturesMaterialized,
        schemas::InferenceServer, schemas::InferenceLive, schemas::InferenceReady, schemas::InferenceModelReady,
        schemas::InferenceModel, schemas::InferenceConfig, schemas::InferenceStatistics, schemas::InferenceIndexRequest,
        schemas::InferenceIndex, schemas::InferenceDone, schemas::InferenceRequest, schemas::InferenceAnswer,
        schemas::ScoringRequest, schemas::Predictions,
        schemas::Models, schemas::Model, schemas::AnthropicModels, schemas::AnthropicModel,
        schemas::MessagesRequest, schemas::MessageObject, schemas::MessageEvent,
        schemas::CountTokensRequest, schemas::InputTokens,
        schemas::PipelineInput, schemas::PipelineForm, schemas::PipelineOutput, schemas::RunEvent,
        schemas::RequestRecord, schemas::Readiness,
        schemas::Feedback, schemas::FeedbackBody, schemas::FeedbackLabel, schemas::FeedbackTime, schemas::FeedbackTaken,
        schemas::CloudEvent, schemas::CloudEvents, schemas::EventsTaken,
        schemas::Jobs, schemas::Job, schemas::JobRemoved, schemas::Deliveries,
        schemas::RunWanted, schemas::Run, schemas::Runs, schemas::RunDecision, schemas::RunLog,
        schemas::RunOutput,
        schemas::Lineage, schemas::LineageEvent, schemas::LineageTaken,
        schemas::Keys, schemas::KeyInfo, schemas::KeyWanted, schemas::KeyMade, schemas::Costs, schemas::ModelInfos,
        schemas::ConfigState, schemas::Reloaded, schemas::ReloadRefused,
        schemas::OpenAiError, schemas::AnthropicError, schemas::InferenceError,
    )),
    modifiers(&Schemes, &Operations),
    tags(
        (name = "openai", description = "OpenAI's protocol. A pipeline is a model of its name."),
        (name = "anthropic", description = "Anthropic's protocol. A pipeline is a model of its name."),
        (name = "features", description = "Features of entities, as Feast's feature server has them"),
        (name = "inference", description = "Predictive models: the Open Inference Protocol v2, and MLflow's scoring"),
        (name = "native", description = "Pipelines, and the ledger"),
        (name = "admin", description = "What an operator does, with an administrator's key. A server that asks for no keys \
            also takes the operator at its own machine."),
        (name = "operations", description = "Probes, metrics, this document"),
    ),
)]
struct Document;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let all = api.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        all.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        all.add_security_scheme("x-api-key", SecurityScheme::ApiKey(header));
    }
}

/// The document of every Forebay, before it is fitted to a project.
fn document() -> Json {
    serde_json::to_value(Document::openapi()).unwrap_or_default()
}

/// `GET /openapi.json`.
pub(crate) async fn serve(State(app): State<App>) -> Response {
    let own = app.generation.paths().map(|(name, path)| (name.as_str(), path));
    json_response(StatusCode::OK, &fitted(own, app.generation.settings.auth_required))
}

/// The document of a project: with the paths that its pipelines have besides the general one, and with no key where none
/// is asked for.
fn fitted<'a>(own: impl Iterator<Item = (&'a str, &'a str)>, auth_required: bool) -> Json {
    let mut all = document();
    let Some(paths) = all.get_mut("paths").and_then(Json::as_object_mut) else { return all };
    let general = paths.get(PIPELINE).and_then(|p| p.get("post")).cloned().unwrap_or_default();
    for (name, path) in own {
        let mut operation = general.clone();
        if let Some(o) = operation.as_object_mut() {
            o.insert("operationId".to_owned(), format!("run_{name}").into());
            o.insert("summary".to_owned(), format!("Run the pipeline `{name}`").into());
        }
        if let Some(parameters) = operation.get_mut("parameters").and_then(Json::as_array_mut) {
            parameters.retain(|p| p.get("in") != Some(&"path".into()));
        }
        paths.insert(path.to_owned(), json!({"post": operation}));
    }
    if !auth_required {
        let operations = paths.values_mut().filter_map(Json::as_object_mut).flat_map(Map::values_mut);
        for security in operations.filter_map(|o| o.get_mut("security")?.as_array_mut()) {
            security.push(json!({}));
        }
    }
    all
}

#[cfg(test)]
mod tests;
