//! Versions of registered models.

use std::collections::BTreeMap;

use super::events::Happened;
use super::filter::{self, Vocabulary};
use super::registry::clauses;
use super::search::orders;
use super::sql::{Dialect, Row, Statement};
use super::{Arg, Page, Pair, Refused, Search, SqlTx, TenantTracking, json, run};
use crate::Error;

/// The stage of a version that was deleted: its number is not given again.
pub(super) const HIDDEN: &str = "Deleted_Internal";

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelVersion {
    /// The registered model.
    pub name: String,
    /// From 1.
    pub version: i64,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed.
    pub updated_at: i64,
    /// For people.
    pub description: Option<String>,
    /// `None`, `Staging`, `Production` or `Archived`.
    pub stage: String,
    /// What it was made of, as its maker says.
    pub source: String,
    /// Where its artifacts are.
    pub location: String,
    /// The run that made it.
    pub run: Option<String>,
    /// Where that run can be looked at.
    pub run_link: Option<String>,
    /// `READY`.
    pub status: String,
    /// The logged model that it is.
    pub model: Option<String>,
    /// By key.
    pub tags: Vec<Pair>,
    /// What stands for it.
    pub aliases: Vec<String>,
}

/// What is to be a version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewModelVersion {
    /// The registered model.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What it is made of.
    pub source: String,
    /// Where its artifacts are.
    pub location: String,
    /// The run that made it.
    pub run: Option<String>,
    /// Where that run can be looked at.
    pub run_link: Option<String>,
    /// The logged model that it is.
    pub model: Option<String>,
    /// By key.
    pub tags: Vec<Pair>,
}

fn missing(name: &str, version: i64) -> Error {
    Refused::missing(format!("Model Version (name={name}, version={version}) not found")).into()
}

/// The columns of a version `n` of a registered model `g`.
pub(super) fn version_columns(d: Dialect) -> String {
    let tags = d.rows(
        "key, value",
        "ml_version_tags WHERE registered = n.registered AND version = n.version",
        "key",
    );
    let aliases =
        d.rows("alias", "ml_aliases WHERE registered = n.registered AND version = n.version", "alias");
    format!(
        "g.name, n.version, n.created_at, n.updated_at, n.description, n.stage, n.source, n.location, n.run, n.run_link, \
         n.status, n.model, {tags}, {aliases}"
    )
}

pub(super) fn version(row: &Row) -> Result<ModelVersion, Error> {
    let aliases: Vec<(String,)> = json::rows(row.str(13)?)?;
    Ok(ModelVersion {
        name: row.text(0)?,
        version: row.int(1)?,
        created_at: row.int(2)?,
        updated_at: row.int(3)?,
        description: row.maybe_text(4)?,
        stage: row.text(5)?,
        source: row.text(6)?,
        location: row.text(7)?,
        run: row.maybe_text(8)?,
        run_link: row.maybe_text(9)?,
        status: row.text(10)?,
        model: row.maybe_text(11)?,
        tags: json::pairs(row.str(12)?)?,
        aliases: aliases.into_iter().map(|(a,)| a).collect(),
    })
}

impl TenantTracking<'_> {
    /// Makes the next version of a registered model.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without the registered model.
    pub async fn create_version(&self, new: &NewModelVersion, now: i64) -> Result<ModelVersion, Error> {
        let mut tx = self.change().await?;
        let (num, _) = self.find_registered(&mut *tx, &new.name).await?;
        let mut s = Statement::new("SELECT MAX(version) FROM ml_versions WHERE registered = ");
        s.bind(num);
        let last = run(&mut *tx, s).await?.first().map(|r| r.maybe_int(0)).transpose()?.flatten();
        let number = last.unwrap_or(0) + 1;
        let mut s = Statement::new(
            "INSERT INTO ml_versions (stage, status, registered, version, created_at, updated_at, description, source, \
             location, run, run_link, model) VALUES ('None', 'READY', ",
        );
        s.bind(num).push(", ").bind(number).push(", ").bind(now).push(", ").bind(now).push(", ");
        s.bind(&new.description).push(", ").bind(&new.source).push(", ").bind(&new.location).push(", ");
        s.bind(&new.run).push(", ").bind(&new.run_link).push(", ").bind(&new.model).push(")");
        run(&mut *tx, s).await?;
        let tags: BTreeMap<_, _> = new.tags.iter().map(|(k, v)| (k, v)).collect();
        for (key, value) in tags {
            set_tag(&mut *tx, (num, number), key, value).await?;
        }
        self.touch(&mut *tx, num, now).await?;
        self.tell(&mut *tx, num, Happened::Version(new, number), now).await?;
        tx.commit().await?;
        self.version(&new.name, number).await
    }

    /// A version.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn version(&self, name: &str, number: i64) -> Result<ModelVersion, Error> {
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_versions n JOIN ml_registered g ON g.num = n.registered WHERE n.stage <> '{HIDDEN}' AND \
             g.tenant = ",
            version_columns(self.db().dialect())
        ));
        s.bind(self.tenant()).push(" AND g.name = ").bind(name).push(" AND n.version = ").bind(number);
        self.read(s).await?.first().map_or_else(|| Err(missing(name, number)), version)
    }

    /// The number of the registered model of a version that is there.
    pub(super) async fn find_version(
        &self,
        tx: &mut dyn SqlTx,
        name: &str,
        number: i64,
    ) -> Result<i64, Error> {
        let mut s = Statement::new(format!(
            "SELECT n.registered FROM ml_versions n JOIN ml_registered g ON g.num = n.registered WHERE \
             n.stage <> '{HIDDEN}' AND g.tenant = "
        ));
        s.bind(self.tenant()).push(" AND g.name = ").bind(name).push(" AND n.version = ").bind(number);
        run(tx, s).await?.first().ok_or_else(|| missing(name, number))?.int(0)
    }

    /// Changes the words about a version, or takes them away.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn describe_version(
        &self,
        name: &str,
        number: i64,
        description: Option<&str>,
        now: i64,
    ) -> Result<ModelVersion, Error> {
        let mut tx = self.change().await?;
        let num = self.find_version(&mut *tx, name, number).await?;
        let mut s = Statement::new("UPDATE ml_versions SET description = ");
        s.bind(description).push(", updated_at = ").bind(now);
        s.push(" WHERE registered = ").bind(num).push(" AND version = ").bind(number);
        run(&mut *tx, s).await?;
        tx.commit().await?;
        self.version(name, number).await
    }

    /// Moves a version to a stage; those that are there go to the archive, if so.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn stage_version(
        &self,
        name: &str,
        number: i64,
        (stage, archive): (&str, bool),
        now: i64,
    ) -> Result<ModelVersion, Error> {
        let mut tx = self.change().await?;
        let num = self.find_version(&mut *tx, name, number).await?;
        if archive {
            let mut s = Statement::new("UPDATE ml_versions SET stage = 'Archived', updated_at = ");
            s.bind(now).push(" WHERE registered = ").bind(num).push(" AND stage = ").bind(stage);
            s.push(" AND version <> ").bind(number);
            run(&mut *tx, s).await?;
        }
        let mut s = Statement::new("UPDATE ml_versions SET stage = ");
        s.bind(stage).push(", updated_at = ").bind(now);
        s.push(" WHERE registered = ").bind(num).push(" AND version = ").bind(number);
        run(&mut *tx, s).await?;
        self.touch(&mut *tx, num, now).await?;
        tx.commit().await?;
        self.version(name, number).await
    }

    /// Deletes a version, and what stands for it. What it was is forgotten; its number is not given again.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn delete_version(&self, name: &str, number: i64, now: i64) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_version(&mut *tx, name, number).await?;
        let mut s = Statement::new("DELETE FROM ml_aliases WHERE registered = ");
        s.bind(num).push(" AND version = ").bind(number).push(" RETURNING alias");
        for row in run(&mut *tx, s).await? {
            let alias = row.str(0)?;
            self.log_alias(&mut *tx, (name, alias), None, (now, now)).await?;
            self.tell(&mut *tx, num, Happened::Alias { name, alias, version: None }, now).await?;
        }
        let mut s = Statement::new(format!(
            "UPDATE ml_versions SET stage = '{HIDDEN}', description = NULL, user_id = NULL, run = NULL, run_link = NULL, \
             model = NULL, source = '', location = '', updated_at = "
        ));
        s.bind(now).push(" WHERE registered = ").bind(num).push(" AND version = ").bind(number);
        run(&mut *tx, s).await?;
        self.touch(&mut *tx, num, now).await?;
        tx.commit().await
    }

    /// Sets a tag of a version, or removes it; one that there is not is removed already.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) of the version.
    pub async fn tag_version(
        &self,
        name: &str,
        number: i64,
        (key, value): (&str, Option<&str>),
        now: i64,
    ) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_version(&mut *tx, name, number).await?;
        let changed = match value {
            Some(value) => {
                set_tag(&mut *tx, (num, number), key, value).await?;
                true
            }
            None => {
                let mut s = Statement::new("DELETE FROM ml_version_tags WHERE registered = ");
                s.bind(num).push(" AND version = ").bind(number).push(" AND key = ").bind(key);
                s.push(" RETURNING key");
                !run(&mut *tx, s).await?.is_empty()
            }
        };
        if changed {
            let what = Happened::Tag { name, version: Some(number), key, value };
            self.tell(&mut *tx, num, what, now).await?;
        }
        tx.commit().await
    }

    /// Versions that the filter allows; unless an order is given, those that were changed last come first.
    ///
    /// # Errors
    /// [`Why::Invalid`](super::Why::Invalid) of a filter or an order that cannot be read.
    pub async fn search_versions(&self, search: &Search) -> Result<Page<ModelVersion>, Error> {
        let all = filter::parse(&search.filter, Vocabulary::ModelVersions)?;
        let orders = orders(&search.order, Vocabulary::ModelVersions)?;
        let d = self.db().dialect();
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_versions n JOIN ml_registered g ON g.num = n.registered WHERE n.stage <> '{HIDDEN}' AND \
             g.tenant = ",
            version_columns(d)
        ));
        s.bind(self.tenant());
        let tags = ("ml_version_tags", "v.registered = n.registered AND v.version = n.version");
        clauses(&mut s, d, &all, tags, |key| match key {
            "run_id" => "n.run",
            "source_path" => "n.source",
            "version_number" => "n.version",
            _ => "g.name",
        });
        let mut by = String::new();
        for o in &orders {
            by.push_str(match o.key.as_str() {
                "version_number" => "n.version",
                "creation_timestamp" => "n.created_at",
                "last_updated_timestamp" => "n.updated_at",
                _ => "g.name",
            });
            by.push_str(if o.ascending { ", " } else { " DESC, " });
        }
        if orders.is_empty() {
            by.push_str("n.updated_at DESC, ");
        }
        by.push_str("g.name, n.version DESC");
        self.page(&mut s, &by, search);
        let found = self.read(s).await?.iter().map(version).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, search.from, search.most))
    }
}

async fn set_tag(
    tx: &mut dyn SqlTx,
    (num, version): (i64, i64),
    key: &str,
    value: &str,
) -> Result<(), Error> {
    let sql = "INSERT INTO ml_version_tags (registered, version, key, value) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (registered, version, key) DO UPDATE SET value = excluded.value";
    let args: Vec<Arg> = vec![num.into(), version.into(), key.into(), value.into()];
    tx.query(sql, args).await.map(drop)
}
