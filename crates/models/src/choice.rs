//! Choices in the registry: a registered model of the choice's name, each of whose versions says which model of the configuration answers.
//!
//! So everything that moves versions moves choices: aliases and their log, rollouts, rollback, the kill switch, webhooks. One version
//! stands for each option, whenever it is chosen.

use contract::{TenantId, UnixMillis};
use store::tracking::{ModelVersion, NewModelVersion, Pair, Refused, Search, Why};

use crate::Error;
use crate::stages::Tracked;

/// The tag of a version that says which model answers.
const OPTION: &str = "forebay.choice";
/// Lines of the log of its aliases that are looked through for one of its own.
const ALIASES: u32 = 1_000;
/// Versions that are looked through for one of an option.
const VERSIONS: u64 = 1_000;

/// The model that a version says answers.
///
/// # Errors
/// It is a version of something else.
pub fn option_of(version: &ModelVersion) -> Result<&str, Error> {
    let said = version.tags.iter().find(|(key, _)| key == OPTION).map(|(_, option)| option.as_str());
    let ModelVersion { name, version, .. } = version;
    said.ok_or_else(|| {
        Refused::state(format!("version {version} of `{name}` does not say which model answers")).into()
    })
}

/// The version of a choice that stands for an option: there, or made.
///
/// # Errors
/// A database that does not answer; the name is taken by something else.
pub async fn version_of(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, option): (&str, &str),
    now: UnixMillis,
) -> Result<i64, Error> {
    let of = tracked.tracking.of(tenant);
    let what = "which model of the configuration answers to this name";
    match of.register(name, Some(what), &[], now.0).await {
        Ok(_) => {}
        Err(store::Error::Refused(Refused { why: Why::Exists, .. })) => {}
        Err(e) => return Err(e.into()),
    }
    if let Some(found) = found(tracked, tenant, (name, option)).await? {
        return Ok(found);
    }
    let tag: Pair = (OPTION.to_owned(), option.to_owned());
    let new = NewModelVersion {
        name: name.to_owned(),
        description: Some(format!("`{option}` answers")),
        source: format!("choice:{option}"),
        location: String::new(),
        run: None,
        run_link: None,
        model: None,
        tags: vec![tag],
    };
    let made = of.create_version(&new, now.0).await?.version;
    // Another server may have made one at the same time: the first of them is it.
    Ok(found(tracked, tenant, (name, option)).await?.unwrap_or(made))
}

/// The first version that stands for an option.
async fn found(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, option): (&str, &str),
) -> Result<Option<i64>, Error> {
    let filter = format!("name = '{}'", name.replace('\'', ""));
    let search = Search { filter, most: VERSIONS, ..Search::default() };
    let all = tracked.tracking.of(tenant).search_versions(&search).await?.items;
    if !all.is_empty() && all.iter().all(|version| option_of(version).is_err()) {
        let m = format!(
            "`{name}` is a registered model with versions of its own, and no choice: give the choice another name"
        );
        return Err(Refused::state(m).into());
    }
    let own = all.iter().filter(|version| option_of(version).is_ok_and(|own| own == option));
    Ok(own.map(|version| version.version).min())
}

/// Lets the first option answer when nobody ever chose: what is chosen later is compared with it.
///
/// # Errors
/// As of [`version_of`].
pub async fn begin(
    tracked: &Tracked,
    tenant: &TenantId,
    (name, alias): (&str, &str),
    first: &str,
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
