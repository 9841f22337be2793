//! Registered models over the wire.

use crate::app::MovedBy;
use ::models::check;
use contract::TenantId;
use serde::Serialize;
use serde_json::json;
use store::tracking::{Pair, RegisteredModel, Search};

use super::errors::Failed;
use super::schema::{Field, Sort, check, may, must};
use super::search::{offset, token};
use super::versions::VersionWire;
use super::wire::pairs;
use super::{Answer, Cx, done, json};

pub(super) const NAME: Field = must("name", Sort::Text);
/// On a page, and at most.
const PAGE: i64 = 100;
const MOST: i64 = 1_000;

#[derive(Serialize)]
struct AliasWire<'a> {
    alias: &'a str,
    version: String,
}

#[derive(Serialize)]
struct ModelWire<'a> {
    name: &'a str,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    latest_versions: Vec<VersionWire<'a>>,
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    tags: &'a [Pair],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<AliasWire<'a>>,
}

impl<'a> From<&'a RegisteredModel> for ModelWire<'a> {
    fn from(m: &'a RegisteredModel) -> Self {
        let alias = |(alias, version): &'a (String, i64)| AliasWire { alias, version: version.to_string() };
        ModelWire {
            name: &m.name,
            creation_timestamp: m.created_at,
            last_updated_timestamp: m.updated_at,
            description: m.description.as_deref(),
            latest_versions: m.latest.iter().map(VersionWire::plain).collect(),
            tags: &m.tags,
            aliases: m.aliases.iter().map(alias).collect(),
        }
    }
}

#[derive(Serialize)]
struct One<'a> {
    registered_model: ModelWire<'a>,
}

fn one(m: &RegisteredModel) -> Answer {
    json(&One { registered_model: m.into() })
}

/// The name of a registered model that could be one.
pub(super) fn name(cx: &Cx) -> Result<&str, Failed> {
    let name = cx.asked.str("name");
    check::model_name(name)?;
    Ok(name)
}

pub(super) async fn create(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, may("tags", Sort::List), may("description", Sort::Text)])?;
    let name = name(cx)?;
    let tags = cx.asked.pairs("tags");
    tags.iter().try_for_each(|(k, v)| check::registry_tag(k, v))?;
    let description = cx.asked.str("description");
    one(&cx.tracking().register(name, Some(description), &tags, cx.now).await?)
}

pub(super) async fn get(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME])?;
    one(&cx.tracking().registered(name(cx)?).await?)
}

pub(super) async fn update(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, may("description", Sort::Text)])?;
    one(&cx.tracking().describe(name(cx)?, cx.asked.str("description"), cx.now).await?)
}

pub(super) async fn rename(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, must("new_name", Sort::Text)])?;
    let to = cx.asked.str("new_name");
    if to.trim().is_empty() {
        return Err(check::missing("new_name").into());
    }
    check::model_name(to)?;
    let from = name(cx)?;
    stays(cx, from)?;
    stays(cx, to)?;
    one(&cx.tracking().rename_registered(from, to, cx.now).await?)
}

pub(super) async fn delete(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME])?;
    let name = name(cx)?;
    stays(cx, name)?;
    cx.tracking().unregister(name, cx.now).await?;
    done()
}

#[derive(Serialize)]
struct Many<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registered_models: Vec<ModelWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn search(cx: &Cx) -> Answer {
    let fields = [
        may("filter", Sort::Text),
        may("max_results", Sort::Most(MOST)),
        may("order_by", Sort::Texts),
        may("page_token", Sort::Text),
    ];
    check(&cx.asked, &fields)?;
    let asked = &cx.asked;
    let wanted = Search {
        filter: asked.str("filter").to_owned(),
        order: asked.texts("order_by"),
        from: offset(asked.str("page_token"))?,
        most: u64::try_from(asked.int("max_results").unwrap_or(PAGE)).unwrap_or(0),
        ..Search::default()
    };
    let page = cx.tracking().search_registered(&wanted).await?;
    let registered_models = page.items.iter().map(ModelWire::from).collect();
    json(&Many { registered_models, next_page_token: page.next.map(token) })
}

pub(super) async fn latest(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, may("stages", Sort::Texts)])?;
    let stages = cx.asked.texts("stages");
    let stages = stages.iter().map(|s| check::version_stage(s)).collect::<Result<Vec<_>, _>>()?;
    let model = cx.tracking().registered(name(cx)?).await?;
    let wanted = model.latest.iter().filter(|v| stages.is_empty() || stages.contains(&v.stage.as_str()));
    let all: Vec<VersionWire<'_>> = wanted.map(VersionWire::from).collect();
    if all.is_empty() {
        return done();
    }
    json(&json!({"model_versions": all}))
}

pub(super) async fn set_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, must("key", Sort::Text), may("value", Sort::Text)])?;
    let (key, value) = (cx.asked.str("key"), cx.asked.str("value"));
    let name = name(cx)?;
    check::registry_tag(key, value)?;
    cx.tracking().tag_registered(name, (key, Some(value)), cx.now).await?;
    done()
}

pub(super) async fn delete_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, must("key", Sort::Text)])?;
    let (name, key) = (name(cx)?, cx.asked.str("key"));
    check::key(key, "key")?;
    cx.tracking().tag_registered(name, (key, None), cx.now).await?;
    done()
}

/// What a gate or a rollout watches keeps its name, its versions and what they say.
pub(super) fn stays(cx: &Cx, name: &str) -> Result<(), Failed> {
    let gated = &cx.app.generation.settings.gated;
    if cx.tenant != TenantId::of_the_project() || !gated.keys().any(|(watched, _)| watched == name) {
        return Ok(());
    }
    Err(Failed::denied(format!(
        "What answers as '{name}' moves by its gate or its rollout alone: take it out of the configuration before it is renamed, deleted or \
         changed."
    )))
}

/// An alias that a gate or a rollout watches moves by these alone.
fn nobody_watches(cx: &Cx, (name, alias): (&str, &str), version: Option<i64>) -> Result<(), Failed> {
    let gated = &cx.app.generation.settings.gated;
    let by = gated.get(&(name.to_owned(), alias.to_owned()));
    let Some(by) = by.filter(|_| cx.tenant == TenantId::of_the_project()) else { return Ok(()) };
    Err(Failed::denied(match (by, version) {
        (MovedBy::Gate, version) => {
            let instead = version.map_or_else(|| format!("kill {name}"), |v| format!("promote {name} {v}"));
            format!(
                "The alias '{alias}' of '{name}' moves by the decisions of its gate alone: run the pipeline that registers the model, or \
                 use `forebay models {instead}` in the project's folder, which asks the gate's record."
            )
        }
        (MovedBy::Rollout, None) => format!(
            "The alias '{alias}' of '{name}' moves by its rollout alone: use `forebay models kill {name}` in the project's folder."
        ),
        (MovedBy::Rollout, Some(_)) => format!(
            "The alias '{alias}' of '{name}' moves by its rollout alone: use `forebay models choose {name}` in the project's folder with \
             what is to answer (of a prompt, the number of the version); with `--now` it answers everybody at once."
        ),
    }))
}

pub(super) async fn set_alias(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, must("alias", Sort::Text), must("version", Sort::Text)])?;
    let (name, alias) = (name(cx)?, cx.asked.str("alias"));
    check::new_alias(alias)?;
    let version = check::version(cx.asked.str("version"))?;
    nobody_watches(cx, (name, alias), Some(version))?;
    let fits = cx.app.generation.settings.fits.get(&(name.to_owned(), alias.to_owned()));
    if let Some(fits) = fits.filter(|_| cx.tenant == TenantId::of_the_project()) {
        let version = cx.tracking().version(name, version).await?;
        fits.fits(&version).map_err(|why| {
            Failed::invalid(format!(
                "Version {} of '{name}' cannot stand for the alias '{alias}': {why}",
                version.version
            ))
        })?;
    }
    cx.tracking().set_alias(name, alias, version, (cx.now, cx.now)).await?;
    done()
}

pub(super) async fn delete_alias(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, must("alias", Sort::Text)])?;
    let (name, alias) = (name(cx)?, cx.asked.str("alias"));
    check::alias(alias)?;
    nobody_watches(cx, (name, alias), None)?;
    cx.tracking().remove_alias(name, alias, cx.now).await?;
    done()
}
