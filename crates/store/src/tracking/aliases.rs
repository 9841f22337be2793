//! Aliases: names that stand for a version, and the log of what they stood for.
//!
//! The log has two times. *Valid* is from when on an alias stood for a version; *known* is when that was written. What was said is
//! never changed: a correction is one more line. So it can be asked what an alias stood for at a time, and what was known of that at
//! another [test: what_an_alias_stood_for_at_a_time_can_be_asked_as_it_was_known_then].

use super::events::Happened;
use super::sql::Statement;
use super::{Arg, SqlTx, TenantTracking, run};
use crate::Error;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasChange {
    /// The alias.
    pub alias: String,
    /// What it stands for from then on; nothing when it was taken away.
    pub version: Option<i64>,
    /// From when on.
    pub valid_at: i64,
    /// When that was written.
    pub known_at: i64,
    /// Whether it was a way back: to what it stood for before, undoing what came between.
    pub back: bool,
}

impl TenantTracking<'_> {
    pub(super) async fn log_alias(
        &self,
        tx: &mut dyn SqlTx,
        (name, alias): (&str, &str),
        version: Option<i64>,
        (valid, known): (i64, i64),
    ) -> Result<(), Error> {
        self.write_alias(tx, (name, alias), version, (valid, known), false).await
    }

    async fn write_alias(
        &self,
        tx: &mut dyn SqlTx,
        (name, alias): (&str, &str),
        version: Option<i64>,
        (valid, known): (i64, i64),
        back: bool,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO ml_alias_log (tenant, name, alias, version, valid_at, known_at, back) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let (valid, known, back) = (valid.into(), known.into(), i64::from(back).into());
        let args: Vec<Arg> =
            vec![self.tenant(), name.into(), alias.into(), version.into(), valid, known, back];
        tx.query(sql, args).await.map(drop)
    }

    /// Lets an alias stand for a version from `valid` on, which may be past: what was said of later times holds on.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without the version.
    pub async fn set_alias(
        &self,
        name: &str,
        alias: &str,
        version: i64,
        (valid, now): (i64, i64),
    ) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_version(&mut *tx, name, version).await?;
        let valid = valid.min(now);
        self.log_alias(&mut *tx, (name, alias), Some(version), (valid, now)).await?;
        let current = run(&mut *tx, self.stands_for((name, alias), (now, now))).await?;
        // It may be a correction of the past alone.
        if current.first().map(|r| r.maybe_int(0)).transpose()?.flatten() == Some(version) {
            self.put_alias(&mut *tx, (num, name, alias), Some(version), now).await?;
        }
        tx.commit().await
    }

    /// Lets an alias stand for a version from now on, if it stands for `from` now: whether it did. Of those who decide at once one
    /// moves it.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without the version.
    pub async fn move_alias(
        &self,
        name: &str,
        alias: &str,
        (from, to): (Option<i64>, i64),
        now: i64,
    ) -> Result<bool, Error> {
        self.shift((name, alias), (from, to), now, false).await
    }

    /// The same, as a way back.
    ///
    /// # Errors
    /// As of [`TenantTracking::move_alias`].
    pub async fn return_alias(
        &self,
        name: &str,
        alias: &str,
        (from, to): (Option<i64>, i64),
        now: i64,
    ) -> Result<bool, Error> {
        self.shift((name, alias), (from, to), now, true).await
    }

    async fn shift(
        &self,
        (name, alias): (&str, &str),
        (from, to): (Option<i64>, i64),
        now: i64,
        back: bool,
    ) -> Result<bool, Error> {
        let mut tx = self.change().await?;
        let num = self.find_version(&mut *tx, name, to).await?;
        let mut s = Statement::new("SELECT version FROM ml_aliases WHERE registered = ");
        s.bind(num).push(" AND alias = ").bind(alias);
        let stands = run(&mut *tx, s).await?.first().map(|r| r.maybe_int(0)).transpose()?.flatten();
        if stands != from {
            return Ok(false);
        }
        self.write_alias(&mut *tx, (name, alias), Some(to), (now, now), back).await?;
        self.put_alias(&mut *tx, (num, name, alias), Some(to), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes an alias away; one that there is not is gone already.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without the registered model.
    pub async fn remove_alias(&self, name: &str, alias: &str, now: i64) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let (num, _) = self.find_registered(&mut *tx, name).await?;
        let mut s = Statement::new("DELETE FROM ml_aliases WHERE registered = ");
        s.bind(num).push(" AND alias = ").bind(alias).push(" RETURNING version");
        if !run(&mut *tx, s).await?.is_empty() {
            self.log_alias(&mut *tx, (name, alias), None, (now, now)).await?;
            self.tell(&mut *tx, num, Happened::Alias { name, alias, version: None }, now).await?;
        }
        tx.commit().await
    }

    /// Lets an alias stand for a version, or for none, and tells of it.
    pub(super) async fn put_alias(
        &self,
        tx: &mut dyn SqlTx,
        (num, name, alias): (i64, &str, &str),
        version: Option<i64>,
        now: i64,
    ) -> Result<(), Error> {
        let mut s = Statement::default();
        match version {
            Some(version) => {
                s.push("INSERT INTO ml_aliases (registered, alias, version) VALUES (").bind(num).push(", ");
                s.bind(alias).push(", ").bind(version);
                s.push(") ON CONFLICT (registered, alias) DO UPDATE SET version = excluded.version");
            }
            None => {
                s.push("DELETE FROM ml_aliases WHERE registered = ")
                    .bind(num)
                    .push(" AND alias = ")
                    .bind(alias);
            }
        }
        run(tx, s).await?;
        self.tell(tx, num, Happened::Alias { name, alias, version }, now).await
    }

    fn stands_for(&self, (name, alias): (&str, &str), (valid, known): (i64, i64)) -> Statement {
        let mut s = Statement::new("SELECT version FROM ml_alias_log WHERE tenant = ");
        s.bind(self.tenant()).push(" AND name = ").bind(name).push(" AND alias = ").bind(alias);
        s.push(" AND valid_at <= ").bind(valid).push(" AND known_at <= ").bind(known);
        s.push(" ORDER BY valid_at DESC, num DESC LIMIT 1");
        s
    }

    /// What an alias stood for at `valid`, as it was known at `known`; nothing when it was not set then. Also of a registered model
    /// that is gone.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn alias_at(
        &self,
        name: &str,
        alias: &str,
        valid: i64,
        known: i64,
    ) -> Result<Option<i64>, Error> {
        let rows = self.read(self.stands_for((name, alias), (valid, known))).await?;
        Ok(rows.first().map(|r| r.maybe_int(0)).transpose()?.flatten())
    }

    /// The log of a registered model's aliases, in the order in which it was written; the newest `limit` lines.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn alias_history(&self, name: &str, limit: u32) -> Result<Vec<AliasChange>, Error> {
        let mut s = Statement::new(
            "SELECT alias, version, valid_at, known_at, back FROM ml_alias_log WHERE tenant = ",
        );
        s.bind(self.tenant())
            .push(" AND name = ")
            .bind(name)
            .push(" ORDER BY num DESC LIMIT ")
            .bind(i64::from(limit));
        let change = |row: &super::Row| {
            Ok(AliasChange {
                alias: row.text(0)?,
                version: row.maybe_int(1)?,
                valid_at: row.int(2)?,
                known_at: row.int(3)?,
                back: row.int(4)? != 0,
            })
        };
        let mut found = self.read(s).await?.iter().map(change).collect::<Result<Vec<_>, Error>>()?;
        found.reverse();
        Ok(found)
    }
}
