//! Logged models: what runs made, before anybody gives it a name in the registry.

use super::entities::value_of;
use super::experiments::inactive;
use super::filter::{self, Entity, Vocabulary};
use super::search::{compare, compare_metric};
use super::sql::{Dialect, Insert, Row, Statement};
use super::{Arg, Metric, Page, Pair, Refused, SqlTx, Stage, TenantTracking, json, run};
use crate::Error;

/// A logged model.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedModel {
    /// `m-` and 32 hexadecimal digits.
    pub id: String,
    /// Its experiment.
    pub experiment: i64,
    /// For people.
    pub name: String,
    /// Where its artifacts are.
    pub location: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed.
    pub updated_at: i64,
    /// MLflow's number: 1 pending, 2 ready, 3 failed.
    pub status: i64,
    /// Its sort, as its maker says.
    pub kind: Option<String>,
    /// The run that made it.
    pub source_run: Option<String>,
    /// By key.
    pub params: Vec<Pair>,
    /// By key.
    pub tags: Vec<Pair>,
    /// All that was measured of it, with the run that measured.
    pub metrics: Vec<(Metric, String)>,
}

/// What is to be a logged model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewLoggedModel {
    /// Fresh.
    pub id: String,
    /// Its experiment.
    pub experiment: i64,
    /// For people.
    pub name: String,
    /// Its sort.
    pub kind: Option<String>,
    /// The run that makes it.
    pub source_run: Option<String>,
    /// By key.
    pub params: Vec<Pair>,
    /// By key.
    pub tags: Vec<Pair>,
}

/// A dataset, by its name and perhaps its digest.
pub type DatasetNamed = (String, Option<String>);

/// A place in an order of logged models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelOrder {
    /// An attribute, or `metrics.KEY`.
    pub field: String,
    /// Smallest first.
    pub ascending: bool,
    /// Of a metric: as it was measured on this dataset.
    pub dataset: (Option<String>, Option<String>),
}

/// What is wanted of logged models.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelSearch {
    /// Their experiments.
    pub experiments: Vec<i64>,
    /// The filter.
    pub filter: String,
    /// Measured on one of these; empty for any.
    pub datasets: Vec<DatasetNamed>,
    /// The order.
    pub order: Vec<ModelOrder>,
    /// Where to begin.
    pub from: u64,
    /// How many at most.
    pub most: u64,
}

pub(super) fn missing(id: &str) -> Error {
    Refused::missing(format!("Logged model with ID '{id}' not found.")).into()
}

fn columns(d: Dialect) -> String {
    let params = d.rows("key, value", "ml_model_params WHERE model = m.num", "key");
    let tags = d.rows("key, value", "ml_model_tags WHERE model = m.num", "key");
    format!(
        "m.num, m.id, e.id, m.name, m.location, m.created_at, m.updated_at, m.status, m.type, m.source_run, \
         {params}, {tags}"
    )
}

fn model(row: &Row) -> Result<(i64, LoggedModel), Error> {
    let model = LoggedModel {
        id: row.text(1)?,
        experiment: row.int(2)?,
        name: row.text(3)?,
        location: row.text(4)?,
        created_at: row.int(5)?,
        updated_at: row.int(6)?,
        status: row.int(7)?,
        kind: row.maybe_text(8)?,
        source_run: row.maybe_text(9)?,
        params: json::pairs(row.str(10)?)?,
        tags: json::pairs(row.str(11)?)?,
        metrics: Vec::new(),
    };
    Ok((row.int(0)?, model))
}

/// Sets keys of a table of a model; the last of each counts.
async fn set(tx: &mut dyn SqlTx, table: &str, num: i64, all: &[Pair]) -> Result<(), Error> {
    let mut last: std::collections::BTreeMap<&str, &str> = std::collections::BTreeMap::new();
    last.extend(all.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let values = last.into_iter().flat_map(|(k, v)| [Arg::from(num), Arg::from(k), Arg::from(v)]).collect();
    let head = format!("INSERT INTO {table} (model, key, value)");
    let tail = " ON CONFLICT (model, key) DO UPDATE SET value = excluded.value";
    tx.insert(vec![Insert::new(head, 3, tail, values)]).await
}

impl TenantTracking<'_> {
    /// Makes a logged model, which is pending.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without its experiment; [`Why::Invalid`](super::Why::Invalid) with a deleted one.
    pub async fn create_logged_model(&self, new: &NewLoggedModel, now: i64) -> Result<LoggedModel, Error> {
        self.begin_tenant(now).await?;
        let mut tx = self.change().await?;
        let of = self.find_experiment(&mut *tx, new.experiment).await?;
        if of.stage != Stage::Active {
            return Err(inactive(new.experiment, of.stage));
        }
        let location = format!("{}/models/{}/artifacts", of.location.trim_end_matches('/'), new.id);
        let mut s = Statement::new(
            "INSERT INTO ml_models (stage, status, tenant, id, experiment, name, location, created_at, updated_at, type, \
             source_run) VALUES ('active', 1, ",
        );
        s.bind(self.tenant()).push(", ").bind(&new.id).push(", ").bind(of.num).push(", ").bind(&new.name);
        s.push(", ").bind(location).push(", ").bind(now).push(", ").bind(now).push(", ").bind(&new.kind);
        s.push(", ").bind(&new.source_run).push(") RETURNING num");
        let num = run(&mut *tx, s).await?.first().ok_or_else(|| missing(&new.id))?.int(0)?;
        set(&mut *tx, "ml_model_params", num, &new.params).await?;
        set(&mut *tx, "ml_model_tags", num, &new.tags).await?;
        tx.commit().await?;
        self.logged_model(&new.id, false).await
    }

    /// A logged model; a deleted one if they are wanted.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn logged_model(&self, id: &str, deleted: bool) -> Result<LoggedModel, Error> {
        let d = self.db().dialect();
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_models m JOIN ml_experiments e ON e.num = m.experiment WHERE m.tenant = ",
            columns(d)
        ));
        s.bind(self.tenant()).push(" AND m.id = ").bind(id);
        if !deleted {
            s.push(" AND m.stage = 'active'");
        }
        let mut found = self.read(s).await?.iter().map(model).collect::<Result<Vec<_>, _>>()?;
        self.add_metrics(&mut found).await?;
        found.pop().map(|(_, m)| m).ok_or_else(|| missing(id))
    }

    async fn add_metrics(&self, models: &mut [(i64, LoggedModel)]) -> Result<(), Error> {
        if models.is_empty() {
            return Ok(());
        }
        let nums: Vec<String> = models.iter().map(|(n, _)| n.to_string()).collect();
        let s = Statement::new(format!(
            "SELECT v.model, v.key, v.value, v.nan, v.at, v.step, v.dataset, v.digest, r.id FROM ml_model_metrics v \
             JOIN ml_runs r ON r.num = v.run WHERE v.model IN ({}) ORDER BY v.model, v.key, v.at, v.step",
            nums.join(", ")
        ));
        for row in self.read(s).await? {
            let num = row.int(0)?;
            let Some((_, m)) = models.iter_mut().find(|(n, _)| *n == num) else { continue };
            let value = value_of(row.real(2)?, row.int(3)? != 0);
            let metric = Metric {
                model: Some(m.id.clone()),
                dataset: (row.maybe_text(6)?, row.maybe_text(7)?),
                ..Metric::new(row.text(1)?, value, row.int(4)?, row.int(5)?)
            };
            m.metrics.push((metric, row.text(8)?));
        }
        Ok(())
    }

    async fn find_model(&self, tx: &mut dyn SqlTx, id: &str) -> Result<i64, Error> {
        let mut s = Statement::new("SELECT num FROM ml_models WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        run(tx, s).await?.first().ok_or_else(|| missing(id))?.int(0)
    }

    /// Says how the making of a model ended.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn finalize_logged_model(&self, id: &str, status: i64, now: i64) -> Result<LoggedModel, Error> {
        let mut tx = self.change().await?;
        let num = self.find_model(&mut *tx, id).await?;
        let mut s = Statement::new("UPDATE ml_models SET status = ");
        s.bind(status).push(", updated_at = ").bind(now).push(" WHERE num = ").bind(num);
        run(&mut *tx, s).await?;
        tx.commit().await?;
        self.logged_model(id, true).await
    }

    /// Deletes a logged model.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn delete_logged_model(&self, id: &str, now: i64) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_model(&mut *tx, id).await?;
        let mut s = Statement::new("UPDATE ml_models SET stage = 'deleted', updated_at = ");
        s.bind(now).push(" WHERE num = ").bind(num);
        run(&mut *tx, s).await?;
        tx.commit().await
    }

    /// Sets tags of a logged model.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn tag_logged_model(&self, id: &str, tags: &[Pair]) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_model(&mut *tx, id).await?;
        set(&mut *tx, "ml_model_tags", num, tags).await?;
        tx.commit().await
    }

    /// Sets parameters of a logged model.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn log_model_params(&self, id: &str, params: &[Pair]) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_model(&mut *tx, id).await?;
        set(&mut *tx, "ml_model_params", num, params).await?;
        tx.commit().await
    }

    /// Removes a tag of a logged model.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) of the model or the tag.
    pub async fn untag_logged_model(&self, id: &str, key: &str) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let num = self.find_model(&mut *tx, id).await?;
        let mut s = Statement::new("DELETE FROM ml_model_tags WHERE model = ");
        s.bind(num).push(" AND key = ").bind(key).push(" RETURNING key");
        if run(&mut *tx, s).await?.is_empty() {
            let m = format!("No tag with key '{key}' found for model with ID '{id}'.");
            return Err(Refused::missing(m).into());
        }
        tx.commit().await
    }

    /// Logged models that the filter allows; those without what the order asks for come last.
    ///
    /// # Errors
    /// [`Why::Invalid`](super::Why::Invalid) of a filter or an order that cannot be read.
    pub async fn search_logged_models(&self, search: &ModelSearch) -> Result<Page<LoggedModel>, Error> {
        let d = self.db().dialect();
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_models m JOIN ml_experiments e ON e.num = m.experiment WHERE m.stage = 'active' AND \
             e.tenant = ",
            columns(d)
        ));
        s.bind(self.tenant()).push(" AND e.id IN ").list(search.experiments.iter().copied());
        self.filter_models(&mut s, d, search)?;
        let mut by = Vec::new();
        for o in &search.order {
            let value = self.order_value(&mut s, o)?;
            let down = if o.ascending { "" } else { " DESC" };
            by.push(format!("CASE WHEN {value} IS NULL THEN 1 ELSE 0 END, {value}{down}"));
        }
        by.extend(["m.created_at DESC".to_owned(), "m.id".to_owned()]);
        let page = super::Search { from: search.from, most: search.most, ..super::Search::default() };
        self.page(&mut s, &by.join(", "), &page);
        let found = self.read(s).await?.iter().map(model).collect::<Result<Vec<_>, _>>()?;
        let mut page = Page::of(found, search.from, search.most);
        self.add_metrics(&mut page.items).await?;
        Ok(Page { items: page.items.into_iter().map(|(_, m)| m).collect(), next: page.next })
    }

    fn filter_models(&self, s: &mut Statement, d: Dialect, search: &ModelSearch) -> Result<(), Refused> {
        let mut measured = false;
        for c in filter::parse(&search.filter, Vocabulary::LoggedModels)? {
            s.push(" AND ");
            match c.entity {
                Entity::Attribute => compare(s, d, attribute(&c.key), c.op, &c.value),
                Entity::Metric => {
                    measured = true;
                    s.push("EXISTS (SELECT 1 FROM ml_model_metrics v WHERE v.model = m.num AND v.key = ");
                    s.bind(&c.key).push(" AND ");
                    compare_metric(s, d, "v", c.op, &c.value);
                    on_datasets(s, &search.datasets);
                    s.push(")");
                }
                entity => {
                    let table = if entity == Entity::Param { "ml_model_params" } else { "ml_model_tags" };
                    s.push("EXISTS (SELECT 1 FROM ")
                        .push(table)
                        .push(" v WHERE v.model = m.num AND v.key = ");
                    s.bind(&c.key).push(" AND ");
                    compare(s, d, "v.value", c.op, &c.value);
                    s.push(")");
                }
            }
        }
        if !measured && !search.datasets.is_empty() {
            s.push(" AND EXISTS (SELECT 1 FROM ml_model_metrics v WHERE v.model = m.num");
            on_datasets(s, &search.datasets);
            s.push(")");
        }
        Ok(())
    }

    fn order_value(&self, s: &mut Statement, o: &ModelOrder) -> Result<String, Refused> {
        if let Some(key) = o.field.strip_prefix("metrics.") {
            let mut sub = format!(
                "(SELECT v.value FROM ml_model_metrics v WHERE v.model = m.num AND v.key = {}",
                s.place(key)
            );
            for (column, wanted) in [("dataset", &o.dataset.0), ("digest", &o.dataset.1)] {
                if let Some(wanted) = wanted.as_deref().filter(|w| !w.is_empty()) {
                    let place = s.place(wanted);
                    sub.push_str(&format!(" AND v.{column} = {place}"));
                }
            }
            sub.push_str(" ORDER BY v.at DESC, v.step DESC, v.run LIMIT 1)");
            return Ok(sub);
        }
        if o.field.contains('.') {
            let m = format!("Invalid order by field name: {}. Only metrics are supported.", o.field);
            return Err(Refused::invalid(m));
        }
        const KNOWN: [&str; 11] = [
            "name",
            "model_id",
            "model_type",
            "status",
            "source_run_id",
            "experiment_id",
            "artifact_location",
            "creation_time",
            "creation_timestamp",
            "creation_timestamp_ms",
            "last_updated_timestamp",
        ];
        if !KNOWN.contains(&o.field.as_str()) && o.field != "last_updated_timestamp_ms" {
            return Err(Refused::invalid(format!("Invalid order by field name: {}", o.field)));
        }
        Ok(attribute(&o.field).to_owned())
    }
}

fn on_datasets(s: &mut Statement, datasets: &[DatasetNamed]) {
    for (n, (name, digest)) in datasets.iter().enumerate() {
        s.push(if n == 0 { " AND (" } else { " OR " }).push("(v.dataset = ").bind(name);
        if let Some(digest) = digest {
            s.push(" AND v.digest = ").bind(digest);
        }
        s.push(")");
    }
    if !datasets.is_empty() {
        s.push(")");
    }
}

fn attribute(key: &str) -> &'static str {
    match key {
        "model_id" => "m.id",
        "model_type" => "m.type",
        "status" => "m.status",
        "source_run_id" => "m.source_run",
        "experiment_id" => "e.id",
        "artifact_location" => "m.location",
        "creation_time" | "creation_timestamp" | "creation_timestamp_ms" => "m.created_at",
        "last_updated_timestamp" | "last_updated_timestamp_ms" => "m.updated_at",
        _ => "m.name",
    }
}
