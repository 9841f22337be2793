//! The bodies as the document describes them. They are types of their own, read by nothing but their derives: the surfaces
//! read and write JSON by hand. A test puts what the surfaces write through these types and back, and nothing may be lost.

use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType};

mod admin;
mod anthropic;
mod batches;
mod completions;
mod errors;
mod events;
mod features;
mod feedback;
mod files;
mod inference;
mod jobs;
mod lineage;
mod native;
mod openai;
mod responses;
mod runs;

pub(super) use admin::{
    ConfigState, Costs, KeyInfo, KeyMade, KeyWanted, Keys, ModelInfos, ReloadRefused, Reloaded,
};
pub(super) use anthropic::{CountTokensRequest, InputTokens, MessageEvent, MessageObject, MessagesRequest};
pub(super) use batches::{Batch, BatchRequest, Batches};
pub(super) use completions::{CompletionRequest, TextChunk, TextCompletion};
pub(super) use errors::{AnthropicError, OpenAiError};
pub(super) use events::{CloudEvent, CloudEvents, EventsTaken};
pub(super) use features::{
    FeatureMaterialize, FeaturePush, FeatureWrite, FeaturesMaterialized, FeaturesTaken, OnlineFeatures,
    OnlineFeaturesRequest,
};
pub(super) use feedback::{Feedback, FeedbackBody, FeedbackLabel, FeedbackTaken, FeedbackTime};
pub(super) use files::{FileDeleted, FileForm, FileObject, Files};
pub(super) use inference::{
    InferenceAnswer, InferenceConfig, InferenceDone, InferenceError, InferenceIndex, InferenceIndexRequest,
    InferenceLive, InferenceModel, InferenceModelReady, InferenceReady, InferenceRequest, InferenceServer,
    InferenceStatistics, Predictions, ScoringRequest,
};
pub(super) use jobs::{Deliveries, Job, JobRemoved, Jobs};
pub(super) use lineage::{Lineage, LineageEvent, LineageTaken};
pub(super) use native::{PipelineForm, PipelineInput, PipelineOutput, Readiness, RequestRecord, RunEvent};
pub(super) use openai::{
    AnthropicModel, AnthropicModels, ChatChunk, ChatCompletion, ChatCompletionRequest, Model, Models,
};
pub(super) use responses::{ResponseDeleted, ResponseEvent, ResponseObject, ResponseRequest};
pub(super) use runs::{Run, RunDecision, RunLog, RunOutput, RunWanted, Runs};

/// Whatever a provider or a pipeline has there, null too.
fn any() -> Schema {
    Schema::Object(ObjectBuilder::new().schema_type(SchemaType::AnyValue).build())
}

/// Keeps a field that is null apart from one that is missing.
mod some {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(v: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        v.serialize(s)
    }
    pub(super) fn deserialize<'d, T: Deserialize<'d>, D: Deserializer<'d>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        T::deserialize(d).map(Some)
    }
}
