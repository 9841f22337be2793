//! OpenAI's files.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A file as a form.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::openapi) struct FileForm {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    purpose: Purpose,
    /// `created_at`
    #[serde(rename = "expires_after[anchor]")]
    #[schema(nullable = false)]
    anchor: Option<String>,
    /// After how many seconds it goes by itself.
    #[serde(rename = "expires_after[seconds]")]
    #[schema(nullable = false, minimum = 3600, maximum = 2_592_000)]
    seconds: Option<u64>,
}

/// What a file is for.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum Purpose {
    Batch,
    UserData,
}

/// What a file is for: `batch_output` is what a batch left.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::openapi) enum FilePurpose {
    Batch,
    UserData,
    BatchOutput,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FileObject {
    /// `file-…`
    id: String,
    /// `file`
    #[schema(pattern = "^file$")]
    object: String,
    bytes: u64,
    /// Seconds since the epoch.
    created_at: i64,
    /// When it goes by itself, if it does.
    #[schema(required)]
    expires_at: Option<i64>,
    filename: String,
    purpose: FilePurpose,
    /// `processed`
    #[schema(pattern = "^processed$")]
    status: String,
}

/// A page of the tenant's files.
#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct Files {
    /// `list`
    #[schema(pattern = "^list$")]
    object: String,
    data: Vec<FileObject>,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
    /// Whether there are more behind the last.
    has_more: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
pub(in crate::openapi) struct FileDeleted {
    id: String,
    /// `file`
    #[schema(pattern = "^file$")]
    object: String,
    deleted: bool,
}
