//! What is logged of runs: metrics, parameters and tags, of many callers in one transaction.
//!
//! A metric is kept once for each key, step, time and value; of each key the newest is kept beside, by step, time and value in that
//! order. A parameter is set once. What is refused of one caller leaves nothing of that call, and all of the others'.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::group::Entry;
use super::runs::{self, RUN_NAME};
use super::sql::{Insert, Statement};
use super::{Arg, Commit, Logged, Metric, Pair, Refused, Sql, SqlTx, Stage, TenantTracking, run};
use crate::Error;

/// Sizes of the lists in which runs are looked for: few, so that each statement is prepared once.
const LISTS: [usize; 4] = [1, 8, 32, 128];
/// Runs that are remembered at most.
const SEEN: usize = 4_096;

impl TenantTracking<'_> {
    /// Logs of a run: all of it or nothing. Whoever logs at the same time shares the commit.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without the run; [`Why::Invalid`](super::Why::Invalid) of a deleted run, or when a
    /// parameter has another value already.
    pub async fn log(&self, run: &str, logged: Logged) -> Result<(), Error> {
        self.commit(run, logged, false).await
    }

    /// Logs one parameter, which is refused in words of its own.
    ///
    /// # Errors
    /// As [`Self::log`].
    pub async fn log_param(&self, run: &str, param: Pair) -> Result<(), Error> {
        self.commit(run, Logged { params: vec![param], ..Logged::default() }, true).await
    }

    async fn commit(&self, run: &str, logged: Logged, alone: bool) -> Result<(), Error> {
        let entry = Entry::new(self.tenant.clone(), run.to_owned(), logged, alone);
        self.all.group.commit(self.db(), entry).await
    }
}

/// A run that something is logged of.
#[derive(Debug, Clone, Copy)]
struct Known {
    num: i64,
    experiment: i64,
    stage: Stage,
}

/// Runs by tenant and id.
type Runs = HashMap<(String, String), Known>;

fn place(entry: &Entry) -> (String, String) {
    (entry.tenant.as_str().to_owned(), entry.run.clone())
}

/// Runs that were there and active when something was logged of them: whoever logs of one again need not look for it, if it is so
/// still when he commits.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Runs>);

impl Seen {
    /// The runs of the entries, when all were seen.
    fn all(&self, entries: &[Arc<Entry>]) -> Option<Runs> {
        let seen = self.0.lock();
        entries.iter().map(|e| place(e)).map(|at| seen.get(&at).map(|run| (at, *run))).collect()
    }

    fn note(&self, runs: &Runs) {
        let mut seen = self.0.lock();
        if seen.len() > SEEN {
            seen.clear();
        }
        let active = runs.iter().filter(|(_, run)| run.stage == Stage::Active);
        seen.extend(active.map(|(at, run)| (at.clone(), *run)));
    }

    fn forget(&self, runs: &Runs) {
        let mut seen = self.0.lock();
        runs.keys().for_each(|at| {
            seen.remove(at);
        });
    }
}

/// A commit with this among its statements fails ([`Error::is_off`]) unless all these runs are there and active.
fn still_there(runs: &Runs) -> Insert {
    let mut all: Vec<(i64, &str)> = runs.iter().map(|((_, id), run)| (run.num, id.as_str())).collect();
    all.sort_unstable();
    let values = all.into_iter().flat_map(|(num, id)| [Arg::from(num), Arg::from(id)]).collect();
    let tail = ") AS v WHERE NOT EXISTS \
                (SELECT 1 FROM ml_runs r WHERE r.num = v.column1 AND r.id = v.column2 AND r.stage = 'active')";
    Insert::new("INSERT INTO expected (met) SELECT 0 FROM (", 2, tail, values)
}

/// Writes the entries in one transaction. What came of each.
///
/// # Errors
/// What concerns all of them: nothing was written.
pub(super) async fn write(
    db: &dyn Sql,
    entries: &[Arc<Entry>],
    seen: &Seen,
) -> Result<Vec<Result<(), Error>>, Error> {
    if let Some(runs) = seen.all(entries) {
        let mut tx = db.begin(Commit::Written).await?;
        let written = async {
            tx.insert(vec![still_there(&runs)]).await?;
            write_of(tx, entries, &runs).await
        };
        match written.await {
            Err(e) if e.is_off() => seen.forget(&runs),
            written => return written,
        }
    }
    let mut tx = db.begin(Commit::Written).await?;
    let runs = known(&mut *tx, entries).await?;
    let results = write_of(tx, entries, &runs).await?;
    seen.note(&runs);
    Ok(results)
}

/// Writes the entries of `runs`, and commits.
async fn write_of(
    mut tx: Box<dyn SqlTx>,
    entries: &[Arc<Entry>],
    runs: &Runs,
) -> Result<Vec<Result<(), Error>>, Error> {
    let mut params = logged_params(&mut *tx, entries, runs).await?;
    let mut results = Vec::with_capacity(entries.len());
    let mut accepted = Vec::with_capacity(entries.len());
    let mut new_params = Vec::new();
    for entry in entries {
        let found = runs.get(&place(entry));
        let result = match found {
            None => Err(runs::missing(&entry.run)),
            Some(run) => runs::must_be_active(&entry.run, run.stage)
                .and_then(|()| take_params(entry, run.num, &mut params, &mut new_params)),
        };
        if let (Ok(()), Some(run)) = (&result, found) {
            accepted.push((run, &entry.tenant, &entry.logged));
        }
        results.push(result);
    }
    let params = Insert::new("INSERT INTO ml_params (run, key, value)", 3, "", new_params);
    let [all, latest] = metrics(&accepted);
    tx.insert(vec![params, all, latest]).await?;
    for (run, _, logged) in &accepted {
        if !logged.tags.is_empty() {
            tags(&mut *tx, run.num, &logged.tags).await?;
        }
    }
    for (run, tenant, logged) in &accepted {
        super::metrics::of_models(&mut *tx, (tenant.as_str(), run.num, run.experiment), &logged.metrics)
            .await?;
    }
    tx.commit().await?;
    Ok(results)
}

async fn known(tx: &mut dyn SqlTx, entries: &[Arc<Entry>]) -> Result<Runs, Error> {
    let mut ids: Vec<&str> = entries.iter().map(|e| e.run.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let size = LISTS.into_iter().find(|n| *n >= ids.len()).unwrap_or(ids.len());
    let last = ids.last().copied().unwrap_or_default();
    ids.resize(size, last);
    let mut s = Statement::new("SELECT tenant, id, num, experiment, stage FROM ml_runs WHERE id IN ");
    s.list(ids);
    let mut found = Runs::new();
    for row in run(tx, s).await? {
        let known = Known { num: row.int(2)?, experiment: row.int(3)?, stage: Stage::of(row.str(4)?) };
        found.insert((row.text(0)?, row.text(1)?), known);
    }
    Ok(found)
}

type Params = HashMap<(i64, String), String>;

/// The parameters that the runs have, of entries that bring some.
async fn logged_params(tx: &mut dyn SqlTx, entries: &[Arc<Entry>], runs: &Runs) -> Result<Params, Error> {
    let with = entries.iter().filter(|e| !e.logged.params.is_empty());
    let mut nums: Vec<i64> = with.filter_map(|e| runs.get(&place(e)).map(|r| r.num)).collect();
    let mut found = Params::new();
    let Some(&last) = nums.last() else { return Ok(found) };
    let size = LISTS.into_iter().find(|n| *n >= nums.len()).unwrap_or(nums.len());
    nums.resize(size, last);
    let mut s = Statement::new("SELECT run, key, value FROM ml_params WHERE run IN ");
    s.list(nums);
    for row in run(tx, s).await? {
        found.insert((row.int(0)?, row.text(1)?), row.text(2)?);
    }
    Ok(found)
}

/// Takes an entry's parameters up among those that are new.
fn take_params(entry: &Entry, num: i64, known: &mut Params, new: &mut Vec<Arg>) -> Result<(), Error> {
    let other = |(key, value): &&Pair| known.get(&(num, key.clone())).is_some_and(|old| old != value);
    let changed: Vec<&Pair> = entry.logged.params.iter().filter(other).collect();
    let old = |key: &str| known.get(&(num, key.to_owned())).cloned().unwrap_or_default();
    if let (true, Some((key, value))) = (entry.alone, changed.first()) {
        return Err(Refused::invalid(format!(
            "Changing param values is not allowed. Param with key='{key}' was already logged with value='{}' \
             for run ID='{}'. Attempted logging new value '{value}'.",
            old(key),
            entry.run
        ))
        .into());
    }
    if !changed.is_empty() {
        let each = |(key, value): &&Pair| {
            format!("{{'key': '{key}', 'old_value': '{}', 'new_value': '{value}'}}", old(key))
        };
        let all: Vec<String> = changed.iter().map(each).collect();
        return Err(Refused::invalid(format!(
            "Changing param values is not allowed. Params were already logged='[{}]' for run ID='{}'.",
            all.join(", "),
            entry.run
        ))
        .into());
    }
    for (key, value) in &entry.logged.params {
        if known.insert((num, key.clone()), value.clone()).is_none() {
            new.extend([Arg::from(num), Arg::from(key), Arg::from(value)]);
        }
    }
    Ok(())
}

/// Sets tags; the one that is the run's name changes that too.
async fn tags(tx: &mut dyn SqlTx, num: i64, tags: &[Pair]) -> Result<(), Error> {
    runs::set_tags(tx, num, tags).await?;
    let name = tags.iter().rev().find(|(k, v)| k == RUN_NAME && !v.is_empty());
    if let Some((_, name)) = name {
        let mut s = Statement::new("UPDATE ml_runs SET name = ");
        s.bind(name).push(" WHERE num = ").bind(num);
        run(tx, s).await?;
    }
    Ok(())
}

/// What comes after another in the order of "newest".
fn newer(a: &Metric, b: &Metric) -> bool {
    let of = |m: &Metric| (m.step, m.at);
    of(a).cmp(&of(b)).then_with(|| a.stored().0.total_cmp(&b.stored().0)).is_gt()
}

/// Every value, and of each key the newest.
fn metrics(accepted: &[(&Known, &contract::TenantId, &Logged)]) -> [Insert; 2] {
    let count: usize = accepted.iter().map(|(_, _, l)| l.metrics.len()).sum();
    // In the order of the keys, in which also several servers lock them.
    let mut latest: BTreeMap<(i64, &str), &Metric> = BTreeMap::new();
    let mut rows = Vec::with_capacity(count * 6);
    for (run, _, logged) in accepted {
        for m in &logged.metrics {
            let (value, nan) = m.stored();
            rows.extend([Arg::from(run.num), Arg::from(&m.key), m.step.into(), m.at.into()]);
            rows.extend([Arg::from(value), Arg::from(i64::from(nan))]);
            let place = latest.entry((run.num, &m.key)).or_insert(m);
            if newer(m, place) {
                *place = m;
            }
        }
    }
    let head = "INSERT INTO ml_metrics (run, key, step, at, value, nan)";
    let all = Insert::new(head, 6, " ON CONFLICT DO NOTHING", rows);
    let mut rows = Vec::with_capacity(latest.len() * 7);
    for ((num, key), m) in latest {
        let (value, nan) = m.stored();
        #[expect(clippy::cast_possible_wrap, reason = "the bits of a double")]
        let bits = value.to_bits() as i64;
        rows.extend([Arg::from(num), Arg::from(key), m.step.into(), m.at.into()]);
        rows.extend([Arg::from(value), Arg::from(bits), Arg::from(i64::from(nan))]);
    }
    let head = "INSERT INTO ml_latest (run, key, step, at, value, bits, nan)";
    let tail = " ON CONFLICT (run, key) DO UPDATE SET step = excluded.step, at = excluded.at, value = excluded.value, \
                bits = excluded.bits, nan = excluded.nan WHERE (excluded.step, excluded.at, excluded.value) > \
                (ml_latest.step, ml_latest.at, ml_latest.value)";
    [all, Insert::new(head, 7, tail, rows)]
}
