//! Experiments over the wire.

use ::models::{check, uri};
use serde_json::json;
use store::tracking::{Refused, Stage};

use super::errors::Failed;
use super::schema::{Field, Sort, check, may, must};
use super::wire::ExperimentWire;
use super::{Answer, Cx, done, json};

const ID: Field = must("experiment_id", Sort::Text);

pub(super) async fn create(cx: &Cx) -> Answer {
    check(
        &cx.asked,
        &[must("name", Sort::Text), may("artifact_location", Sort::Text), may("tags", Sort::List)],
    )?;
    let name = cx.asked.str("name");
    check::experiment_name(name)?;
    let at = cx.asked.maybe_str("artifact_location").filter(|a| !a.is_empty());
    at.map_or(Ok(()), location)?;
    let tags = cx.asked.pairs("tags");
    tags.iter().try_for_each(|(k, v)| check::experiment_tag(k, v))?;
    let id = cx.tracking().create_experiment(name, at, &tags, cx.now).await?;
    json(&json!({"experiment_id": id.to_string()}))
}

/// Where artifacts may go.
fn location(at: &str) -> Result<(), Failed> {
    if at.contains(['#', ';']) {
        return Err(Failed::invalid("'artifact_location' URL can't include fragments or params."));
    }
    if uri::scheme(at).as_deref() == Some("runs") {
        return Err(Failed::invalid(format!("Artifact location cannot be a runs:/ URI. Given: '{at}'")));
    }
    Ok(())
}

fn id(cx: &Cx) -> Result<i64, Refused> {
    check::experiment_id(cx.asked.str("experiment_id"))
}

pub(super) async fn get(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID])?;
    let found = cx.tracking().experiment(id(cx)?, cx.now).await?;
    json(&json!({"experiment": ExperimentWire::from(&found)}))
}

pub(super) async fn get_by_name(cx: &Cx) -> Answer {
    check(&cx.asked, &[must("experiment_name", Sort::Text)])?;
    let name = cx.asked.str("experiment_name");
    match cx.tracking().experiment_by_name(name, cx.now).await? {
        Some(found) => json(&json!({"experiment": ExperimentWire::from(&found)})),
        None => Err(Refused::missing(format!("Could not find experiment with name '{name}'")).into()),
    }
}

pub(super) async fn delete(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID])?;
    cx.tracking().stage_experiment(id(cx)?, Stage::Deleted, cx.now).await?;
    done()
}

pub(super) async fn restore(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID])?;
    cx.tracking().stage_experiment(id(cx)?, Stage::Active, cx.now).await?;
    done()
}

pub(super) async fn update(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID, must("new_name", Sort::Text)])?;
    let name = cx.asked.str("new_name");
    check::experiment_name(name)?;
    cx.tracking().rename_experiment(id(cx)?, name, cx.now).await?;
    done()
}

pub(super) async fn set_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID, must("key", Sort::Text), may("value", Sort::Text)])?;
    let (key, value) = (cx.asked.str("key"), cx.asked.str("value"));
    check::experiment_tag(key, value)?;
    cx.tracking().tag_experiment(id(cx)?, key, Some(value), cx.now).await?;
    done()
}

pub(super) async fn delete_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID, must("key", Sort::Text)])?;
    cx.tracking().tag_experiment(id(cx)?, cx.asked.str("key"), None, cx.now).await?;
    done()
}
