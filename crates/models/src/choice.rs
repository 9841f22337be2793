//! Choices in the registry: a registered model of the choice's name, each of whose versions says which model or pipeline of the
//! configuration answers, or is the text of a prompt.
//!
//! So everything that moves versions moves choices: aliases and their log, rollouts, rollback, the kill switch, webhooks. One version
//! stands for each option, whenever it is chosen. A prompt is one as MLflow's client makes and reads it.

use contract::{TenantId, UnixMillis};
use serde::Deserialize;
use store::tracking::{ModelVersion, NewModelVersion, PROMPT, Pair, Refused, Search, Why, is_prompt};

use crate::Error;
use crate::stages::Tracked;

/// The tag of a version that says which model or pipeline answers.
const OPTION: &str = "forebay.choice";
/// The tags of a version of a prompt, which are MLflow's: its text, and what that is.
const TEXT: &str = "mlflow.prompt.text";
const KIND: &str = "_mlflow_prompt_type";
/// The tags that say what a version of a choice or a prompt stands for.
pub const SAYS: [&str; 4] = [OPTION, TEXT, KIND, PROMPT];
/// Lines of the log of its aliases that are looked through for one of its own.
const ALIASES: u32 = 1_000;
/// Versions that are looked through for one of an option.
const VERSIONS: u64 = 1_000;

/// What a version of a choice stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand<'a> {
    /// A model or a pipeline of the configuration.
    Named(&'a str),
    /// The text of a prompt.
    Prompt(&'a str),
}

impl Stand<'_> {
    fn is_prompt(self) -> bool {
        matches!(self, Stand::Prompt(_))
    }

    fn is(self, version: &ModelVersion) -> bool {
        match self {
            Stand::Named(option) => option_of(version).is_ok_and(|own| own == option),
            Stand::Prompt(text) => prompt_of(version).is_ok_and(|own| own == text),
        }
    }

    /// Where a version says that it comes from; its tags; in words.
    fn version(self) -> (String, Vec<Pair>, Option<String>) {
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        match self {
            Stand::Named(option) => {
                (format!("choice:{option}"), vec![tag(OPTION, option)], Some(format!("`{option}` answers")))
            }
            // As MLflow's client writes it, which then reads it.
            Stand::Prompt(text) => {
                let tags = vec![tag(PROMPT, "true"), tag(TEXT, text), tag(KIND, "text")];
                ("prompt-template".to_owned(), tags, None)
            }
        }
    }
}

/// The model or pipeline that a version says answers.
///
/// # Errors
/// It is a version of something else.
pub fn option_of(version: &ModelVersion) -> Result<&str, Error> {
    tag(version, OPTION).ok_or_else(|| {
        let ModelVersion { name, version, .. } = version;
        Refused::state(format!("version {version} of `{name}` does not say what answers")).into()
    })
}

fn tag<'a>(version: &'a ModelVersion, key: &str) -> Option<&'a str> {
    version.tags.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
}

/// A turn of a prompt that MLflow's client wrote as a conversation.
#[derive(Deserialize)]
struct Turn {
    role: String,
    content: String,
}

/// The text of a prompt's version, in the words of prompt files: a conversation has a line such as `--- system ---` before each turn.
///
/// # Errors
/// It is no version of a prompt, or a conversation with parts that no prompt file can say.
pub fn prompt_of(version: &ModelVersion) -> Result<String, Error> {
    let ModelVersion { name, version: number, .. } = version;
    let Some(text) = tag(version, TEXT).filter(|_| is_prompt(&version.tags)) else {
        return Err(Refused::state(format!("version {number} of `{name}` is no prompt")).into());
    };
    if tag(version, KIND) != Some("chat") {
        return Ok(text.to_owned());
    }
    let turns = serde_json::from_str::<Vec<Turn>>(text).ok();
    let marks = |line: &str| line.trim().starts_with("--- ") && line.trim().ends_with(" ---");
    let known = |turn: &Turn| {
        matches!(turn.role.as_str(), "system" | "user" | "assistant") && !turn.content.lines().any(marks)
    };
    let turns = turns.filter(|turns| turns.iter().all(known)).ok_or_else(|| {
        let m = format!(
            "version {number} of `{name}` is a conversation that is not one of texts of `system`, `user` and `assistant`, without lines such as `--- user ---`"
        );
        Refused::state(m)
    })?;
    Ok(turns.iter().map(|Turn { role, content }| format!("--- {role} ---\n{content}\n")).collect())
}

/// The version of a choice that stands for something: there, or made.
///
/// # Errors
/// A database that does not answer; the name is taken by something else.
pub async fn version_of(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, stand): (&str, Stand<'_>),
    now: UnixMillis,
) -> Result<i64, Error> {
    let of = tracked.tracking.of(tenant);
    let prompt = [(PROMPT.to_owned(), "true".to_owned())];
    let (what, tags) = match stand {
        Stand::Named(_) => (Some("what of the configuration answers to this name"), &[][..]),
        Stand::Prompt(_) => (None, &prompt[..]),
    };
    match of.register(name, what, tags, now.0).await {
        Ok(_) => {}
        Err(store::Error::Refused(Refused { why: Why::Exists, .. })) => {}
        Err(e) => return Err(e.into()),
    }
    if let Some(found) = found(tracked, tenant, (name, stand)).await? {
        return Ok(found);
    }
    let (source, tags, description) = stand.version();
    let new = NewModelVersion {
        name: name.to_owned(),
        description,
        source,
        location: String::new(),
        run: None,
        run_link: None,
        model: None,
        tags,
    };
    let made = of.create_version(&new, now.0).await?.version;
    // Another server may have made one at the same time: the first of them is it.
    Ok(found(tracked, tenant, (name, stand)).await?.unwrap_or(made))
}

/// The first version that stands for something.
async fn found(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, stand): (&str, Stand<'_>),
) -> Result<Option<i64>, Error> {
    let of = tracked.tracking.of(tenant);
    if of.registered(name).await?.is_prompt() != stand.is_prompt() {
        let (is, not) = if stand.is_prompt() { ("model", "prompt") } else { ("prompt", "model") };
        let m = format!("`{name}` is a registered {is}, and no {not}: give one of them another name");
        return Err(Refused::state(m).into());
    }
    let mut filter = format!("name = '{}'", name.replace('\'', ""));
    if stand.is_prompt() {
        filter.push_str(&format!(" AND tags.`{PROMPT}` = 'true'"));
    }
    let search = Search { filter, most: VERSIONS, ..Search::default() };
    let all = of.search_versions(&search).await?.items;
    if !stand.is_prompt() && !all.is_empty() && all.iter().all(|version| option_of(version).is_err()) {
        let m = format!(
            "`{name}` is a registered model with versions of its own, and no choice: give the choice another name"
        );
        return Err(Refused::state(m).into());
    }
    Ok(all.iter().filter(|version| stand.is(version)).map(|version| version.version).min())
}

/// Lets the first option answer when nobody ever chose: what is chosen later is compared with it.
///
/// # Errors
/// As of [`version_of`].
pub async fn begin(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, alias): (&str, &str),
    first: Stand<'_>,
    now: UnixMillis,
) -> Result<(), Error> {
    // Who took the alias away means that; a version alone says nothing of it.
    let log = tracked.tracking.of(tenant).alias_history(name, ALIASES).await?;
    if log.iter().any(|line| line.alias == alias) {
        return Ok(());
    }
    let version = version_of(tracked, tenant, (name, first), now).await?;
    tracked.tracking.of(tenant).move_alias(name, alias, (None, version), now.0).await?;
    Ok(())
}
