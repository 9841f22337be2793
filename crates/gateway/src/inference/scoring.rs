//! `POST /invocations`, as MLflow's scoring server has it. A server with several models is told which by `?model=`.

use axum::extract::{Query, State};
use axum::response::Response;
use contract::{Code, Error, RequestId};
use http::header::CONTENT_TYPE;
use predict::protocol::scoring;
use predict::{Models, Tensor};

use super::{entity, failed, json_bytes, models, run, stamp};
use crate::app::App;
use crate::came::Came;

#[derive(serde::Deserialize)]
pub(super) struct Which {
    model: Option<String>,
    version: Option<String>,
}

pub(super) async fn invocations(State(app): State<App>, Query(which): Query<Which>, came: Came) -> Response {
    let id = app.request_id();
    match answer(&app, id, which, came).await {
        Ok(response) => response,
        Err(e) => failed(&app, id, e),
    }
}

async fn answer(app: &App, id: RequestId, which: Which, mut came: Came) -> Result<Response, Error> {
    let caller = came.caller(app)?;
    let model = match which.model {
        Some(named) => named,
        None => only(models(app)?)?,
    };
    let kind = came.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    let scored = match kind.split(';').next().map(str::trim) {
        Some("application/json") => scoring::json(&came.body)?,
        Some("text/csv") => scoring::csv(&came.body)?,
        _ => {
            let m = "`Content-Type` must be application/json or text/csv";
            return Err(Error::new(Code::InvalidRequest, m));
        }
    };
    let by_row = scored.by_row();
    let asked = run::Asked {
        id,
        entity: entity(&came.headers),
        model: &model,
        version: which.version.as_deref(),
        tenant: &caller,
        arrived: came.arrived,
        timeout: None,
        wanted: &[],
    };
    let predicted = run::infer(app, asked, run::Given::Scored(scored)).await?;
    let outputs: Vec<(&str, Tensor)> = predicted.named().map(|(name, t)| (name, t.clone())).collect();
    let mut response = json_bytes(scoring::predictions(&outputs, by_row)?);
    stamp(id, &predicted, &mut response);
    Ok(response)
}

/// The model of a server that has one.
fn only(models: &Models) -> Result<String, Error> {
    let mut names: Vec<String> = models.list().into_iter().map(|l| l.model).collect();
    names.dedup();
    match <[String; 1]>::try_from(names) {
        Ok([only]) => Ok(only),
        Err(several) => {
            let m = format!(
                "say which model is asked, as `/invocations?model=…`: there are {}",
                several.join(", ")
            );
            Err(Error::new(Code::InvalidRequest, m).param("model"))
        }
    }
}
