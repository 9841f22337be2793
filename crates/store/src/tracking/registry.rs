//! Registered models: names under which versions are released, and the tags and aliases of each.

use std::collections::BTreeMap;

use super::events::Happened;
use super::filter::{self, Clause, Entity, Op, Value, Vocabulary};
use super::search::{compare, orders};
use super::sql::{Dialect, Row, Statement};
use super::versions::{HIDDEN, ModelVersion, version, version_columns};
use super::{Arg, Page, Pair, Refused, Search, SqlTx, TenantTracking, json, run};
use crate::Error;

/// The tag by which a prompt is told from a model.
pub const PROMPT: &str = "mlflow.prompt.is_prompt";

/// A registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredModel {
    /// Unique in its tenant.
    pub name: String,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed, or a version of it.
    pub updated_at: i64,
    /// For people.
    pub description: Option<String>,
    /// The newest version in each stage.
    pub latest: Vec<ModelVersion>,
    /// By key.
    pub tags: Vec<Pair>,
    /// Aliases and their versions.
    pub aliases: Vec<(String, i64)>,
}

impl RegisteredModel {
    /// Whether it is a prompt.
    pub fn is_prompt(&self) -> bool {
        is_prompt(&self.tags)
    }
}

/// Whether these are tags of a prompt.
pub fn is_prompt(tags: &[Pair]) -> bool {
    tags.iter().rev().find(|(k, _)| k == PROMPT).is_some_and(|(_, v)| v.eq_ignore_ascii_case("true"))
}

fn missing(name: &str) -> Error {
    Refused::missing(format!("Registered Model with name={name} not found")).into()
}

fn columns(d: Dialect) -> String {
    let tags = d.rows("key, value", "ml_registered_tags WHERE registered = g.num", "key");
    let aliases = d.rows("alias, version", "ml_aliases WHERE registered = g.num", "alias");
    format!("g.num, g.name, g.created_at, g.updated_at, g.description, {tags}, {aliases}")
}

fn registered(row: &Row) -> Result<(i64, RegisteredModel), Error> {
    let model = RegisteredModel {
        name: row.text(1)?,
        created_at: row.int(2)?,
        updated_at: row.int(3)?,
        description: row.maybe_text(4)?,
        latest: Vec::new(),
        tags: json::pairs(row.str(5)?)?,
        aliases: json::rows(row.str(6)?)?,
    };
    Ok((row.int(0)?, model))
}

/// Appends clauses of a filter about names and tags; `tags` is the table of tags and how it is joined.
pub(super) fn clauses(
    s: &mut Statement,
    d: Dialect,
    all: &[Clause],
    tags: (&str, &str),
    column: impl Fn(&str) -> &'static str,
) {
    for c in all {
        if c.entity == Entity::Tag && c.key == PROMPT {
            continue;
        }
        s.push(" AND ");
        if c.entity == Entity::Tag {
            s.push("EXISTS (SELECT 1 FROM ")
                .push(tags.0)
                .push(" v WHERE ")
                .push(tags.1)
                .push(" AND v.key = ");
            s.bind(&c.key).push(" AND ");
            compare(s, d, "v.value", c.op, &c.value);
            s.push(")");
        } else {
            compare(s, d, column(&c.key), c.op, &c.value);
        }
    }
    // Prompts are shown to whoever asks for them, and to nobody else.
    let wanted = all.iter().find(|c| c.entity == Entity::Tag && c.key == PROMPT).is_some_and(|c| {
        let is = |word: &str| matches!(&c.value, Value::Text(t) if t.eq_ignore_ascii_case(word));
        c.op == Op::Equal && is("true") || c.op == Op::NotEqual && is("false")
    });
    s.push(if wanted { " AND EXISTS" } else { " AND NOT EXISTS" });
    s.push(" (SELECT 1 FROM ").push(tags.0).push(" v WHERE ").push(tags.1);
    s.push(" AND v.key = 'mlflow.prompt.is_prompt' AND v.value = 'true')");
}

impl TenantTracking<'_> {
    /// Makes a registered model.
    ///
    /// # Errors
    /// [`Why::Exists`](super::Why::Exists).
    pub async fn register(
        &self,
        name: &str,
        description: Option<&str>,
        tags: &[Pair],
        now: i64,
    ) -> Result<RegisteredModel, Error> {
        let mut tx = self.change().await?;
        if let Ok((_, taken)) = self.find_registered(&mut *tx, name).await {
            return Err(taken_by(name, taken.is_prompt(), is_prompt(tags)));
        }
        let mut s = Statement::new(
            "INSERT INTO ml_registered (tenant, name, created_at, updated_at, description) VALUES (",
        );
        s.bind(self.tenant()).push(", ").bind(name).push(", ").bind(now).push(", ").bind(now);
        s.push(", ").bind(description).push(") RETURNING num");
        let num = run(&mut *tx, s).await?.first().ok_or_else(|| missing(name))?.int(0)?;
        let last: BTreeMap<_, _> = tags.iter().map(|(k, v)| (k, v)).collect();
        for (key, value) in last {
            set_tag(&mut *tx, num, key, value).await?;
        }
        self.tell(&mut *tx, num, Happened::Made { name, description, tags }, now).await?;
        tx.commit().await?;
        self.registered(name).await
    }

    pub(super) async fn find_registered(
        &self,
        tx: &mut dyn SqlTx,
        name: &str,
    ) -> Result<(i64, RegisteredModel), Error> {
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_registered g WHERE g.tenant = ",
            columns(self.db().dialect())
        ));
        s.bind(self.tenant()).push(" AND g.name = ").bind(name);
        run(tx, s).await?.first().map_or_else(|| Err(missing(name)), registered)
    }

    pub(super) async fn touch(&self, tx: &mut dyn SqlTx, num: i64, now: i64) -> Result<(), Error> {
        let mut s = Statement::new("UPDATE ml_registered SET updated_at = ");
        s.bind(now).push(" WHERE num = ").bind(num);
        run(tx, s).await.map(drop)
    }

    /// A registered model with its newest versions.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn registered(&self, name: &str) -> Result<RegisteredModel, Error> {
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_registered g WHERE g.tenant = ",
            columns(self.db().dialect())
        ));
        s.bind(self.tenant()).push(" AND g.name = ").bind(name);
        let mut found = self.read(s).await?.iter().map(registered).collect::<Result<Vec<_>, _>>()?;
        self.add_latest(&mut found).await?;
        found.pop().map(|(_, m)| m).ok_or_else(|| missing(name))
    }

    async fn add_latest(&self, models: &mut [(i64, RegisteredModel)]) -> Result<(), Error> {
        if models.is_empty() {
            return Ok(());
        }
        let nums: Vec<String> = models.iter().map(|(n, _)| n.to_string()).collect();
        let s = Statement::new(format!(
            "SELECT {} FROM ml_versions n JOIN ml_registered g ON g.num = n.registered WHERE n.registered IN ({}) \
             AND n.stage <> '{HIDDEN}' AND n.version = (SELECT MAX(x.version) FROM ml_versions x WHERE \
             x.registered = n.registered AND x.stage = n.stage) ORDER BY n.version",
            version_columns(self.db().dialect()),
            nums.join(", ")
        ));
        for row in self.read(s).await? {
            let found = version(&row)?;
            if let Some((_, m)) = models.iter_mut().find(|(_, m)| m.name == found.name) {
                m.latest.push(found);
            }
        }
        Ok(())
    }

    /// Changes the words about a registered model.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn describe(&self, name: &str, description: &str, now: i64) -> Result<RegisteredModel, Error> {
        let mut tx = self.change().await?;
        let (num, _) = self.find_registered(&mut *tx, name).await?;
        let mut s = Statement::new("UPDATE ml_registered SET description = ");
        s.bind(description).push(", updated_at = ").bind(now).push(" WHERE num = ").bind(num);
        run(&mut *tx, s).await?;
        tx.commit().await?;
        self.registered(name).await
    }

    /// Gives a registered model another name. Its aliases are logged as gone from the old one and set at the new one.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing); [`Why::Exists`](super::Why::Exists).
    pub async fn rename_registered(&self, name: &str, to: &str, now: i64) -> Result<RegisteredModel, Error> {
        let mut tx = self.change().await?;
        let (num, model) = self.find_registered(&mut *tx, name).await?;
        if name != to && self.find_registered(&mut *tx, to).await.is_ok() {
            return Err(Refused::exists(format!("Registered Model (name={to}) already exists.")).into());
        }
        let mut s = Statement::new("UPDATE ml_registered SET name = ");
        s.bind(to).push(", updated_at = ").bind(now).push(" WHERE num = ").bind(num);
        run(&mut *tx, s).await?;
        let mut s = Statement::new("UPDATE ml_versions SET updated_at = ");
        s.bind(now).push(" WHERE registered = ").bind(num);
        run(&mut *tx, s).await?;
        for (alias, version) in &model.aliases {
            self.log_alias(&mut *tx, (name, alias), None, (now, now)).await?;
            self.log_alias(&mut *tx, (to, alias), Some(*version), (now, now)).await?;
            for (name, version) in [(name, None), (to, Some(*version))] {
                self.tell(&mut *tx, num, Happened::Alias { name, alias, version }, now).await?;
            }
        }
        tx.commit().await?;
        self.registered(to).await
    }

    /// Removes a registered model with its versions. What its aliases stood for stays in their log.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn unregister(&self, name: &str, now: i64) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let (num, model) = self.find_registered(&mut *tx, name).await?;
        for (alias, _) in &model.aliases {
            self.log_alias(&mut *tx, (name, alias), None, (now, now)).await?;
            self.tell(&mut *tx, num, Happened::Alias { name, alias, version: None }, now).await?;
        }
        for table in ["ml_aliases", "ml_version_tags", "ml_versions", "ml_registered_tags"] {
            let mut s = Statement::new(format!("DELETE FROM {table} WHERE registered = "));
            s.bind(num);
            run(&mut *tx, s).await?;
        }
        let mut s = Statement::new("DELETE FROM ml_registered WHERE num = ");
        s.bind(num);
        run(&mut *tx, s).await?;
        tx.commit().await
    }

    /// Sets a tag of a registered model, or removes it; one that there is not is removed already.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) of the model.
    pub async fn tag_registered(
        &self,
        name: &str,
        (key, value): (&str, Option<&str>),
        now: i64,
    ) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let (num, _) = self.find_registered(&mut *tx, name).await?;
        let changed = match value {
            Some(value) => {
                set_tag(&mut *tx, num, key, value).await?;
                true
            }
            None => {
                let mut s = Statement::new("DELETE FROM ml_registered_tags WHERE registered = ");
                s.bind(num).push(" AND key = ").bind(key).push(" RETURNING key");
                !run(&mut *tx, s).await?.is_empty()
            }
        };
        if changed {
            self.tell(&mut *tx, num, Happened::Tag { name, version: None, key, value }, now).await?;
        }
        tx.commit().await
    }

    /// Registered models that the filter allows, by name unless an order is given.
    ///
    /// # Errors
    /// [`Why::Invalid`](super::Why::Invalid) of a filter or an order that cannot be read.
    pub async fn search_registered(&self, search: &Search) -> Result<Page<RegisteredModel>, Error> {
        let all = filter::parse(&search.filter, Vocabulary::RegisteredModels)?;
        let orders = orders(&search.order, Vocabulary::RegisteredModels)?;
        let d = self.db().dialect();
        let mut s = Statement::new(format!("SELECT {} FROM ml_registered g WHERE g.tenant = ", columns(d)));
        s.bind(self.tenant());
        clauses(&mut s, d, &all, ("ml_registered_tags", "v.registered = g.num"), |_| "g.name");
        let mut by = String::new();
        for o in &orders {
            by.push_str(if o.key == "name" { "g.name" } else { "g.updated_at" });
            by.push_str(if o.ascending { ", " } else { " DESC, " });
        }
        by.push_str("g.name");
        self.page(&mut s, &by, search);
        let found = self.read(s).await?.iter().map(registered).collect::<Result<Vec<_>, _>>()?;
        let mut page = Page::of(found, search.from, search.most);
        self.add_latest(&mut page.items).await?;
        Ok(Page { items: page.items.into_iter().map(|(_, m)| m).collect(), next: page.next })
    }
}

fn taken_by(name: &str, old: bool, new: bool) -> Error {
    let word = |prompt| if prompt { "Prompt" } else { "Registered Model" };
    if old == new {
        return Refused::exists(format!("{} (name={name}) already exists.", word(new))).into();
    }
    Refused::exists(format!(
        "Tried to create a {} with name '{name}', but the name is already taken by a {}. MLflow does not allow creating \
         a model and a prompt with the same name.",
        word(new).to_lowercase(),
        word(old).to_lowercase()
    ))
    .into()
}

async fn set_tag(tx: &mut dyn SqlTx, num: i64, key: &str, value: &str) -> Result<(), Error> {
    let sql = "INSERT INTO ml_registered_tags (registered, key, value) VALUES ($1, $2, $3) \
               ON CONFLICT (registered, key) DO UPDATE SET value = excluded.value";
    let args: Vec<Arg> = vec![num.into(), key.into(), value.into()];
    tx.query(sql, args).await.map(drop)
}
