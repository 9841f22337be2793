//! Versions of registered models over the wire.

use ::models::check;
use serde::Serialize;
use serde_json::{Value as Json, json};
use store::tracking::{ModelVersion, NewModelVersion, Pair, Refused, Search, is_prompt};

use super::errors::Failed;
use super::registry::{NAME, name, stays};
use super::schema::{Field, Sort, check, may, must};
use super::search::{offset, token};
use super::source::{Made, made};
use super::wire::pairs;
use super::{Answer, Cx, done, json};

const VERSION: Field = must("version", Sort::Text);
/// On a page.
const PAGE: i64 = 10_000;
const MOST: i64 = 200_000;

#[derive(Serialize)]
pub(super) struct VersionWire<'a> {
    name: &'a str,
    version: String,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
    current_stage: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    status: &'a str,
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    tags: &'a [Pair],
    #[serde(skip_serializing_if = "Option::is_none")]
    run_link: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    aliases: &'a [String],
}

impl<'a> VersionWire<'a> {
    /// As it stands in a list, where its aliases are not said.
    pub(super) fn plain(v: &'a ModelVersion) -> Self {
        VersionWire { aliases: &[], ..VersionWire::from(v) }
    }
}

impl<'a> From<&'a ModelVersion> for VersionWire<'a> {
    fn from(v: &'a ModelVersion) -> Self {
        VersionWire {
            name: &v.name,
            version: v.version.to_string(),
            creation_timestamp: v.created_at,
            last_updated_timestamp: v.updated_at,
            current_stage: &v.stage,
            description: v.description.as_deref(),
            source: &v.source,
            run_id: v.run.as_deref(),
            status: &v.status,
            tags: &v.tags,
            run_link: v.run_link.as_deref(),
            aliases: &v.aliases,
        }
    }
}

#[derive(Serialize)]
struct One<'a> {
    model_version: VersionWire<'a>,
}

fn one(v: &ModelVersion) -> Answer {
    json(&One { model_version: v.into() })
}

fn number(cx: &Cx) -> Result<i64, Refused> {
    check::version(cx.asked.str("version"))
}

pub(super) async fn create(cx: &Cx) -> Answer {
    let fields = [
        NAME,
        must("source", Sort::Text),
        may("run_id", Sort::Text),
        may("tags", Sort::List),
        may("run_link", Sort::Text),
        may("description", Sort::Text),
        may("model_id", Sort::Text),
    ];
    check(&cx.asked, &fields)?;
    let (asked, tags) = (&cx.asked, cx.asked.pairs("tags"));
    let source = asked.str("source");
    let prompt = is_prompt(&tags);
    let made = if prompt {
        let (source, run) = (source.to_owned(), asked.maybe_str("run_id").map(str::to_owned));
        Made { location: source.clone(), source, run, model: None }
    } else {
        made(cx, source).await?
    };
    let name = name(cx)?;
    tags.iter().try_for_each(|(k, v)| check::registry_tag(k, v))?;
    let new = NewModelVersion {
        name: name.to_owned(),
        description: Some(asked.str("description").to_owned()),
        source: made.source,
        location: made.location,
        run: Some(made.run.unwrap_or_default()),
        run_link: Some(asked.str("run_link").to_owned()),
        model: made.model.clone(),
        tags,
    };
    let version = cx.tracking().create_version(&new, cx.now).await?;
    if let Some(model) = made.model {
        note(cx, &model, &version).await?;
    }
    one(&version)
}

/// The tag in which a logged model's versions are listed.
const VERSIONS: &str = "mlflow.modelVersions";

async fn note(cx: &Cx, model: &str, version: &ModelVersion) -> Result<(), Failed> {
    let logged = cx.tracking().logged_model(model, false).await?;
    let before = logged.tags.iter().find(|(k, _)| k == VERSIONS).map(|(_, v)| v.as_str());
    let mut all: Vec<Json> = before.and_then(|v| serde_json::from_str(v).ok()).unwrap_or_default();
    let new = json!({"name": version.name, "version": version.version});
    if !all.contains(&new) {
        all.push(new);
    }
    let each = |v: &Json| {
        let field = |name| v.get(name).map(Json::to_string).unwrap_or_default();
        format!("{{\"name\": {}, \"version\": {}}}", field("name"), field("version"))
    };
    // With the spaces that Python writes.
    let tag = (VERSIONS.to_owned(), format!("[{}]", all.iter().map(each).collect::<Vec<_>>().join(", ")));
    Ok(cx.tracking().tag_logged_model(model, &[tag]).await?)
}

pub(super) async fn get(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, VERSION])?;
    one(&cx.tracking().version(name(cx)?, number(cx)?).await?)
}

/// The version that an alias stands for; `latest` stands for the newest.
pub(super) async fn by_alias_of(cx: &Cx, name: &str, alias: &str) -> Result<ModelVersion, Failed> {
    let t = cx.tracking();
    let model = t.registered(name).await?;
    if alias.eq_ignore_ascii_case("latest") {
        let newest = model.latest.into_iter().max_by_key(|v| v.version);
        return Ok(
            newest.ok_or_else(|| Refused::missing(format!("Latest version not found for model {name}.")))?
        );
    }
    let Some((_, version)) = model.aliases.iter().find(|(a, _)| a == alias) else {
        return Err(Failed::invalid(format!("Registered model alias {alias} not found.")));
    };
    Ok(t.version(name, *version).await?)
}

pub(super) async fn by_alias(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, must("alias", Sort::Text)])?;
    let (name, alias) = (name(cx)?, cx.asked.str("alias"));
    check::alias(alias)?;
    let found = by_alias_of(cx, name, alias).await?;
    if alias.eq_ignore_ascii_case("latest") {
        return json(&One { model_version: VersionWire::from(&found) });
    }
    one(&found)
}

pub(super) async fn update(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, VERSION, may("description", Sort::Text)])?;
    let description = cx.asked.maybe_str("description");
    one(&cx.tracking().describe_version(name(cx)?, number(cx)?, description, cx.now).await?)
}

pub(super) async fn delete(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, VERSION])?;
    let (name, number) = (name(cx)?, number(cx)?);
    stays(cx, name)?;
    cx.tracking().delete_version(name, number, cx.now).await?;
    done()
}

#[derive(Serialize)]
struct Many<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_versions: Vec<VersionWire<'a>>,
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
    let most = asked.int("max_results").unwrap_or(PAGE);
    if most < 1 {
        return Err(Failed::invalid(format!(
            "Invalid value for max_results. It must be a positive integer, but got {most}"
        )));
    }
    let wanted = Search {
        filter: asked.str("filter").to_owned(),
        order: asked.texts("order_by"),
        from: offset(asked.str("page_token"))?,
        most: u64::try_from(most).unwrap_or(1),
        ..Search::default()
    };
    let page = cx.tracking().search_versions(&wanted).await?;
    let model_versions = page.items.iter().map(VersionWire::plain).collect();
    json(&Many { model_versions, next_page_token: page.next.map(token) })
}

pub(super) async fn download_uri(cx: &Cx) -> Answer {
    let found = cx.tracking().version(name(cx)?, number(cx)?).await?;
    json(&json!({"artifact_uri": found.location}))
}

pub(super) async fn transition(cx: &Cx) -> Answer {
    let fields = [NAME, VERSION, must("stage", Sort::Text), may("archive_existing_versions", Sort::Flag)];
    check(&cx.asked, &fields)?;
    let archive = cx.asked.flag("archive_existing_versions");
    let stage = check::version_stage(cx.asked.str("stage"))?;
    if archive && !matches!(stage, "Staging" | "Production") {
        let message = format!(
            "Model version transition cannot archive existing model versions because '{}' is not an Active stage. \
             Valid stages are ['Staging', 'Production']",
            cx.asked.str("stage")
        );
        return Err(Refused { why: store::tracking::Why::Internal, message }.into());
    }
    one(&cx.tracking().stage_version(name(cx)?, number(cx)?, (stage, archive), cx.now).await?)
}

/// What a version stands for is said once.
fn says(cx: &Cx, name: &str, key: &str) -> Result<(), Failed> {
    if ::models::choice::SAYS.contains(&key) { stays(cx, name) } else { Ok(()) }
}

pub(super) async fn set_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, VERSION, must("key", Sort::Text), may("value", Sort::Text)])?;
    let (key, value) = (cx.asked.str("key"), cx.asked.str("value"));
    let (name, number) = (name(cx)?, number(cx)?);
    check::registry_tag(key, value)?;
    says(cx, name, key)?;
    cx.tracking().tag_version(name, number, (key, Some(value)), cx.now).await?;
    done()
}

pub(super) async fn delete_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[NAME, VERSION, must("key", Sort::Text)])?;
    let (name, number, key) = (name(cx)?, number(cx)?, cx.asked.str("key"));
    check::key(key, "key")?;
    says(cx, name, key)?;
    cx.tracking().tag_version(name, number, (key, None), cx.now).await?;
    done()
}
