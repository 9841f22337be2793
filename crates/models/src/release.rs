//! Which version answers, moved by people.
//!
//! Forward an alias moves by an accepted decision about the version and whoever answers now; where only people's word is missing, this is
//! where it is given, as a decision of its own. Back it moves to what it stood for before, which was accepted then; and it can be
//! taken away, so that nothing answers. Whoever serves follows within a second.
//!
//! Invariant: no version comes to stand for an alias that no gate accepted, unless it stood for it before.

use contract::{TenantId, UnixMillis};
use store::tracking::{AliasChange, ModelVersion, Refused, Why};

use crate::Error;
use crate::gate::seal::{DECISION, PublicKey, SealError, Signer};
use crate::gate::{Approved, Decision, Verdict};
use crate::stages::{Tracked, decision_of, find, keep_decision};

/// Lines of an alias' log that are looked at.
const LINES: u32 = 10_000;

/// A decision about a version, whose signature holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// The record's name, which is of its content.
    pub name: String,
    /// The key that signed it.
    pub key: String,
}

/// What an alias stood for, and what it stands for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Before; nothing when it was not set.
    pub from: Option<i64>,
    /// Now.
    pub to: i64,
}

fn unsealed(e: &SealError) -> Error {
    Refused::state(format!("the decision cannot be trusted: failed to {e}")).into()
}

/// The newest decision about a version; nothing when none was made.
///
/// # Errors
/// No signature of these keys holds for it, or its artifacts cannot be read.
pub async fn decided(
    tracked: &Tracked,
    tenant: &TenantId,
    version: &ModelVersion,
    keys: &[PublicKey],
) -> Result<Option<Decided>, Error> {
    let Some((name, sealed)) = decision_of(tracked, tenant, version).await? else { return Ok(None) };
    let own = sealed.name().map_err(|e| unsealed(&e))?;
    if own != name {
        return Err(Refused::state(format!("the decision is `{own}`, and the version names `{name}`")).into());
    }
    let decision: Decision = sealed.open(DECISION, keys).map_err(|e| unsealed(&e))?;
    let key = sealed.signatures.first().map(|s| s.keyid.clone()).unwrap_or_default();
    Ok(Some(Decided { decision, name, key }))
}

/// Where a version is to answer.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The registered model.
    pub name: &'a str,
    /// The version.
    pub version: i64,
    /// The alias.
    pub alias: &'a str,
}

/// Lets a version answer, with somebody's word for it.
///
/// # Errors
/// Nobody decided about it, it was refused, somebody else's word is still missing, or it was held against another than who
/// answers now.
pub async fn promote(
    tracked: &Tracked,
    tenant: &TenantId,
    wanted: Wanted<'_>,
    word: Approved,
    signer: (&(dyn Signer + Send + Sync), &PublicKey),
) -> Result<Moved, Error> {
    let Wanted { name, version: number, alias } = wanted;
    let of = tracked.tracking.of(tenant);
    let version = of.version(name, number).await?;
    let answers = find(tracked, tenant, name, Ok(alias)).await?;
    let from = answers.as_ref().map(|v| v.version);
    let now = word.at;
    let state = |m: String| Error::from(Refused::state(m));
    if from == Some(number) {
        return Err(state(format!("version {number} of `{name}` is the {alias} already")));
    }
    let log = of.alias_history(name, LINES).await?;
    let stood = log.iter().any(|line| line.alias == alias && line.version == Some(number));
    if !stood {
        let (signer, key) = signer;
        let known = decided(tracked, tenant, &version, std::slice::from_ref(key)).await?;
        let Some(Decided { mut decision, .. }) = known else {
            return Err(state(format!(
                "no gate has decided about version {number} of `{name}`: register it by a stage that names a `gate`"
            )));
        };
        if decision.verdict == Verdict::WaitsForApproval {
            decision = decision.agreed(word, now);
            keep_decision(tracked, tenant, &version, &decision, signer, now.0).await?;
        }
        if decision.verdict != Verdict::Accepted {
            return Err(state(decision.sentence()));
        }
        let against = from.map(|from| format!("{name}/{from}"));
        if decision.champion != against {
            let then = decision.champion.as_deref().unwrap_or("nobody");
            let now = against.as_deref().unwrap_or("nobody");
            return Err(state(format!(
                "version {number} was held against {then}, and {now} answers now: run its pipeline again, which holds it against that"
            )));
        }
    }
    if of.move_alias(name, alias, (from, number), now.0).await? {
        Ok(Moved { from, to: number })
    } else {
        Err(state("another version came to answer meanwhile: look again".to_owned()))
    }
}

/// Goes back to what an alias stood for before.
///
/// # Errors
/// It never stood for anything else, or that is gone.
pub async fn roll_back(
    tracked: &Tracked,
    tenant: &TenantId,
    name: &str,
    alias: &str,
    now: UnixMillis,
) -> Result<Moved, Error> {
    let of = tracked.tracking.of(tenant);
    let from = find(tracked, tenant, name, Ok(alias)).await?.map(|v| v.version);
    let log = of.alias_history(name, LINES).await?;
    let log: Vec<AliasChange> = log.into_iter().filter(|line| line.alias == alias).collect();
    // A version that was deleted since is passed over.
    let mut to = None;
    for version in before(&log) {
        match of.version(name, version).await {
            Ok(_) => {
                to = Some(version);
                break;
            }
            Err(store::Error::Refused(Refused { why: Why::Missing, .. })) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let Some(to) = to else {
        let m = format!(
            "no version that is there was the {alias} of `{name}` before: there is none to go back to"
        );
        return Err(Refused::state(m).into());
    };
    if of.return_alias(name, alias, (from, to), now.0).await? {
        Ok(Moved { from, to })
    } else {
        Err(Refused::state("another version came to answer meanwhile: look again").into())
    }
}

/// Takes an alias away, so that nothing answers under it. What it stood for.
///
/// # Errors
/// There is no such model.
pub async fn take_out(
    tracked: &Tracked,
    tenant: &TenantId,
    name: &str,
    alias: &str,
    now: UnixMillis,
) -> Result<Option<i64>, Error> {
    let stood = find(tracked, tenant, name, Ok(alias)).await?.map(|v| v.version);
    tracked.tracking.of(tenant).remove_alias(name, alias, now.0).await?;
    Ok(stood)
}

/// The versions that an alias stood for before what it stands for now, the last one first. A way back undoes what came between, so that
/// going back again and again leads ever further back.
fn before(log: &[AliasChange]) -> Vec<i64> {
    let mut trail: Vec<Option<i64>> = Vec::new();
    for line in log {
        let stood = trail.iter().rposition(|version| *version == line.version);
        match stood.filter(|_| line.back) {
            Some(at) => trail.truncate(at + 1),
            None if trail.last() == Some(&line.version) => {}
            None => trail.push(line.version),
        }
    }
    let now = trail.pop().flatten();
    trail.into_iter().rev().flatten().filter(|version| Some(*version) != now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Versions as an alias came to stand for them; a negative one by a way back.
    fn log(versions: &[Option<i64>]) -> Vec<AliasChange> {
        let line = |version: &Option<i64>| AliasChange {
            alias: "champion".to_owned(),
            version: version.map(i64::abs),
            valid_at: 0,
            known_at: 0,
            back: version.is_some_and(|version| version < 0),
        };
        versions.iter().map(line).collect()
    }

    #[test]
    fn going_back_again_leads_further_back_and_out_of_nothing_to_what_was() {
        let of = |versions: &[Option<i64>]| before(&log(versions)).first().copied();
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Some(1)]), None);
        assert_eq!(of(&[Some(1), Some(2), Some(3)]), Some(2));
        assert_eq!(of(&[Some(1), Some(2), Some(3), Some(-2)]), Some(1));
        assert_eq!(of(&[Some(1), Some(2), Some(3), Some(-2), Some(-1)]), None);
        assert_eq!(of(&[Some(1), Some(2), Some(-1), Some(3)]), Some(1));
        assert_eq!(of(&[Some(1), Some(2), None]), Some(2));
        assert_eq!(of(&[Some(1), Some(2), None, Some(-2)]), Some(1));
        // Who chooses what was before goes forward, and back from there to what was between.
        assert_eq!(of(&[Some(1), Some(2), Some(3), Some(2)]), Some(3));
        assert_eq!(of(&[Some(1), Some(2), Some(1), Some(3)]), Some(1));
        assert_eq!(of(&[Some(1), Some(2), Some(1), Some(3), Some(-1)]), Some(2));
        assert_eq!(
            before(&log(&[Some(1), Some(2), Some(1), Some(3), Some(1)])),
            [3, 2],
            "but never to itself"
        );
    }

    proptest! {
        #[test]
        fn however_often_one_goes_back_one_comes_to_an_end(versions in prop::collection::vec(1..5_i64, 1..12)) {
            let mut log = log(&versions.iter().map(|v| Some(*v)).collect::<Vec<_>>());
            let mut steps = 0;
            while let Some(to) = before(&log).first().copied() {
                let last = log.last().unwrap().version;
                prop_assert!(Some(to) != last);
                log.push(AliasChange { version: Some(to), back: true, ..log[0].clone() });
                steps += 1;
                prop_assert!(steps <= versions.len());
            }
        }
    }
}
