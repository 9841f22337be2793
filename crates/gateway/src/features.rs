//! Online features, as Feast's remote online store and feature server have them: `POST /get-online-features`, `/push`,
//! `/write-to-online-store`, `/materialize` and `/materialize-incremental`.
//!
//! Who keeps features fits [`Features`]; nothing here knows how. Nothing is asked of a model and nothing is charged: there is no
//! record of it in the ledger. A tenant sees the views that are his alone. Materialising is the operator's.

pub(crate) mod wire;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use contract::{BoxFuture, Code, Error, Surface, TenantId, UnixMillis};
use http::StatusCode;
use http::request::Parts;
use serde_json::Value as Json;

use crate::app::App;
use crate::came::Came;
use crate::jobs::written;
use crate::{admin, errors, headers};

/// A value of a feature, or of an entity's key.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValue {
    /// None.
    Null,
    /// A flag.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double; one that is not finite goes out as `"NaN"`, `"Infinity"` or `"-Infinity"`.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// Anything else.
    Json(Json),
}

/// What is known of a feature of an entity, in Feast's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureStatus {
    /// Its value.
    Present,
    /// That there is no row of the entity.
    NotFound,
    /// That it is null.
    NullValue,
    /// That its row is older than the TTL.
    OutsideMaxAge,
}

/// Which features are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeaturesNamed {
    /// View and feature, in the order of the answer.
    Each(Vec<(String, String)>),
    /// Those of a feature service.
    Service(String),
}

/// Values by column, all of a length.
pub type FeatureRows = Vec<(String, Vec<Json>)>;

/// A feature of every entity, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureColumn {
    /// Its view.
    pub view: String,
    /// Its name there.
    pub feature: String,
    /// Null where the status is not [`FeatureStatus::Present`].
    pub values: Vec<FeatureValue>,
    /// What is known of each.
    pub statuses: Vec<FeatureStatus>,
    /// When each row happened, in microseconds since the epoch; `None` where there is none.
    pub events: Arc<[Option<i64>]>,
}

/// Rows that somebody pushes.
#[derive(Debug, Clone, PartialEq)]
pub struct FeaturesPush {
    /// The view, or the push source that it names.
    pub to: String,
    /// The rows.
    pub rows: FeatureRows,
    /// Whether they are to be served.
    pub online: bool,
    /// Whether they are to be added to the view's dataset.
    pub offline: bool,
}

/// What came of a materialisation of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeaturesMaterialized {
    /// The view.
    pub view: String,
    /// The versions of its datasets that are online now.
    pub versions: Vec<(String, u64)>,
    /// Rows that were read.
    pub rows: u64,
    /// Entities that they are of.
    pub entities: u64,
}

/// How a view is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeaturesState {
    /// The view.
    pub view: String,
    /// Entities that have a row.
    pub entities: u64,
    /// The event time of the newest row.
    pub newest_event: Option<UnixMillis>,
    /// When it was last materialised.
    pub materialized: Option<UnixMillis>,
}

/// Who keeps features: the wiring. Errors are documented ones, in words for the caller.
pub trait Features: Send + Sync {
    /// The features of entities as they are now. Does not wait.
    ///
    /// # Errors
    /// `not_found` for a view or a service that is none of the tenant's; `invalid_request`.
    fn online(
        &self,
        tenant: &TenantId,
        named: &FeaturesNamed,
        entities: &FeatureRows,
    ) -> Result<Vec<FeatureColumn>, Error>;

    /// Takes rows: all of them or none. Returns how many.
    fn push<'a>(&'a self, tenant: &'a TenantId, push: FeaturesPush) -> BoxFuture<'a, Result<u64, Error>>;

    /// Brings views up to what the datasets hold, up to a time in ISO 8601; all of them when none is named.
    fn materialize<'a>(
        &'a self,
        views: &'a [String],
        until: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<FeaturesMaterialized>, Error>>;

    /// How each view is doing.
    fn states(&self) -> Vec<FeaturesState>;
}

/// The routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/get-online-features", post(online))
        .route("/push", post(push))
        .route("/write-to-online-store", post(write))
        .route("/materialize", post(materialize))
        .route("/materialize-incremental", post(materialize_incremental))
}

fn features(app: &App) -> Result<&dyn Features, Error> {
    app.features().ok_or_else(|| {
        Error::new(
            Code::NotFound,
            "this server has no features: the section `features` of forebay.yaml names them",
        )
    })
}

/// `POST /get-online-features`.
async fn online(State(app): State<App>, mut came: Came) -> Response {
    let found = (|| {
        let tenant = came.caller(&app)?.tenant;
        let asked = wire::asked(&came.body)?;
        let columns = features(&app)?.online(&tenant, &asked.named, &asked.entities)?;
        wire::answer(&asked, &columns)
    })();
    answer(&app, found)
}

/// `POST /push`.
async fn push(State(app): State<App>, mut came: Came) -> Response {
    let pushed = async {
        let tenant = came.caller(&app)?.tenant;
        features(&app)?.push(&tenant, wire::pushed(&came.body)?).await.map(wire::taken)
    };
    let pushed = pushed.await;
    answer(&app, pushed)
}

/// `POST /write-to-online-store`: what Feast's remote online store sends for a push.
async fn write(State(app): State<App>, mut came: Came) -> Response {
    let pushed = async {
        let tenant = came.caller(&app)?.tenant;
        features(&app)?.push(&tenant, wire::to_write(&came.body)?).await.map(wire::taken)
    };
    let pushed = pushed.await;
    answer(&app, pushed)
}

/// `POST /materialize`.
async fn materialize(State(app): State<App>, parts: Parts, came: Came) -> Response {
    let done = async {
        let by = admin::operator(&app, &parts)?;
        bring(&app, &by, wire::range(&came.body)?).await
    };
    let done = done.await;
    answer(&app, done)
}

/// `POST /materialize-incremental`.
async fn materialize_incremental(State(app): State<App>, parts: Parts, came: Came) -> Response {
    let done = async {
        let by = admin::operator(&app, &parts)?;
        bring(&app, &by, wire::until(&came.body)?).await
    };
    let done = done.await;
    answer(&app, done)
}

async fn bring(app: &App, by: &admin::Operator, wanted: wire::Wanted) -> Result<String, Error> {
    let done = features(app)?.materialize(&wanted.views, wanted.until.as_deref()).await?;
    tracing::info!(views = done.len(), %by, "features were materialised");
    Ok(wire::done(&done))
}

fn answer(app: &App, result: Result<String, Error>) -> Response {
    match result {
        Ok(text) => {
            let mut r = written(StatusCode::OK, text);
            headers::request_id(app.request_id(), Surface::Native, r.headers_mut());
            r
        }
        Err(e) => errors::answer(app, Surface::Native, e),
    }
}
