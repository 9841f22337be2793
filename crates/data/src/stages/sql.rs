//! `sql`: a query over tables, as a table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use contract::lineage::{ColumnMade, FromColumn, Lineage, Output, Thing, ThingKind};
use contract::{BoxFuture, Inputs, Value};
use indexmap::IndexMap;
use pipeline::Problem;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::config::{HowConfig, dataset, how, open, problem, tables};
use super::job::Job;
use super::kind::{Config, Made, Work};
use super::table::Table;
use super::{Means, table};
use crate::query::{Given, Query};
use crate::{At, Dataset, How};

/// Makes a table by a query. The tables that it names are the stage's inputs, and datasets of the configuration, as they are when
/// the stage starts: `flights`, or another version as `"flights@july"`. The SQL is DataFusion's, which is much like PostgreSQL's;
/// names with capitals stand in double quotes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SqlConfig {
    /// The query, one statement that gives rows.
    #[schemars(length(min = 1))]
    query: Option<String>,
    /// The file that the query is in, relative to the configuration. Nothing is filled in there: it is given `values`.
    file: Option<PathBuf>,
    /// Values that the query names as `$name`: texts, numbers and bools. A text stays a text, `cast($month as int)` makes a number of it.
    values: IndexMap<String, Json>,
    /// The tables that are inputs of the stage. Unless given: those that the query names and that are no datasets of the configuration.
    inputs: Option<Vec<String>>,
    /// The dataset that the result is published in. Unless given it is the stage's own, and the next stage's input.
    into: Option<String>,
    /// With `into`: how the rows go together with those there are. Unless given: as the dataset's configuration says, or `overwrite`.
    how: Option<HowConfig>,
    /// With `how: merge`: the columns that tell rows apart.
    key: Vec<String>,
}

impl SqlConfig {
    /// The text, and where it stands in the configuration.
    fn text(&self, means: &dyn Means) -> Result<(String, String, &'static str), Problem> {
        match (&self.query, &self.file) {
            (Some(query), None) => Ok((query.clone(), String::new(), "/query")),
            (None, Some(file)) => {
                let path = means.folder().join(file);
                let read = std::fs::read_to_string(&path);
                let text = read.map_err(|e| {
                    let message = format!("the file `{}` cannot be read: {e}", file.display());
                    problem("/file", &message, "check the path: it is relative to the configuration")
                })?;
                Ok((text, format!("{}: ", file.display()), "/file"))
            }
            _ => {
                Err(problem("", "it has no query, or two", "write it as `query`, or name its file by `file`"))
            }
        }
    }

    /// The query as far as it can be read: what is still to be filled in stands for a name, or a part of one.
    fn parsed(&self, means: &dyn Means) -> Result<Query, Problem> {
        let (text, from, pointer) = self.text(means)?;
        let filled = if self.query.is_some() { masked(&text) } else { text };
        Query::parse(&filled).map_err(|why| {
            let remedy = "correct the query; names with capitals stand in double quotes";
            problem(pointer, &format!("{from}{why}"), remedy)
        })
    }

    /// The tables that are inputs, and those that are datasets, with their versions.
    fn split(&self, query: &Query, means: &dyn Means) -> (Vec<String>, Vec<Named>) {
        let (mut inputs, mut datasets) = (Vec::new(), Vec::new());
        for name in &query.tables {
            let own = self.inputs.as_ref().is_some_and(|inputs| inputs.contains(name));
            match Named::of(name) {
                _ if own => {}
                // Which table it is, is not known yet.
                _ if name.contains(LATER) && self.query.as_deref().is_some_and(open) => {}
                Some(named) if self.inputs.is_some() || means.dataset(&named.dataset).is_some() => {
                    datasets.push(named);
                }
                _ => inputs.push(name.clone()),
            }
        }
        (self.inputs.clone().unwrap_or(inputs), datasets)
    }
}

/// A dataset that a query names.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    /// As the query calls it.
    table: String,
    dataset: String,
    at: At,
}

impl Named {
    fn of(table: &str) -> Option<Named> {
        let (dataset, at) = match table.split_once('@') {
            Some((dataset, at)) => (dataset, at.parse().ok()?),
            None => (table, At::Newest),
        };
        Some(Named { table: table.to_owned(), dataset: dataset.to_owned(), at })
    }

    /// Whether another commit can change what is read.
    fn moves(&self) -> bool {
        !matches!(self.at, At::Name(_) | At::Version(_))
    }
}

/// What stands for one place that is still to be filled in is at least this.
const LATER: &str = "xxxxx";

/// The text with as many letters in the place of everything that is still to be filled in, so that other places stay what they are.
fn masked(text: &str) -> String {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    while let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let close = match from.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            _ => "#}",
        };
        let end = from.find(close).map_or(from.len(), |end| end + close.len());
        let (inside, after) = from.split_at(end);
        let fill = if close == "}}" { 'x' } else { ' ' };
        out.extend(inside.chars().map(|c| if c == '\n' { c } else { fill }));
        rest = after;
    }
    out.push_str(rest);
    out
}

impl Config for SqlConfig {
    const NAME: &'static str = "sql";
    const CODE: &'static [&'static str] = &["query"];
    const PATHS: &'static [&'static str] = &["file"];

    fn build(self, means: &Arc<dyn Means>) -> Result<Made, Vec<Problem>> {
        let mut problems = Vec::new();
        let query = self.parsed(&**means).map_err(|p| problems.push(p)).ok();
        let mut values = BTreeMap::new();
        for (name, value) in &self.values {
            let given = match value {
                Json::String(text) => Given::Text(text.clone()),
                Json::Bool(bool) => Given::Bool(*bool),
                Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                    (Some(int), _) => Given::Int(int),
                    (None, float) => Given::Float(float.unwrap_or_default()),
                },
                _ => {
                    let pointer = format!("/values/{name}");
                    problems.push(problem(
                        &pointer,
                        "this is no value of a query",
                        "give a text, a number or a bool",
                    ));
                    continue;
                }
            };
            values.insert(name.clone(), given);
        }
        let how = how(self.how, &self.key).map_err(|p| problems.push(p)).ok().flatten();
        let into = match &self.into {
            None if how.is_some() => {
                let remedy = "add `into: DATASET`, or remove it";
                problems.push(problem("/how", "`how` is about a dataset, and none is named", remedy));
                None
            }
            None => None,
            Some(name) => {
                problems.extend(dataset(name, "/into").err());
                let configured = means.dataset(name);
                if configured.as_ref().is_some_and(|c| c.expectations.is_some()) {
                    let message =
                        format!("the dataset `{name}` has expectations, which nobody looks at here");
                    let remedy = "leave `into` out, and publish the table by a stage `commit`";
                    problems.push(problem("/into", &message, remedy));
                }
                let by_itself = how.or(configured.map(|c| c.how)).unwrap_or(How::Overwrite);
                Some((name.clone(), by_itself))
            }
        };
        let Some(query) = query.filter(|_| problems.is_empty()) else { return Err(problems) };
        let (inputs, datasets) = self.split(&query, &**means);
        for input in &inputs {
            if !query.tables.contains(input) {
                let message = format!("the query does not name the input `{input}`");
                let remedy = "name it in the query as it is written here, or remove it from `inputs`";
                problems.push(problem("/inputs", &message, remedy));
            }
        }
        for named in &datasets {
            problems.extend(dataset(&named.dataset, "").err());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let made = tables(inputs.iter().map(String::as_str));
        Ok(Made { inputs: made, work: Box::new(Selecting { query, inputs, datasets, values, into }) })
    }

    fn files(&self) -> Vec<PathBuf> {
        self.file.iter().cloned().collect()
    }

    fn cached(&self, means: &dyn Means) -> bool {
        // What is published has an effect beside its value; what reads the newest of a dataset depends on that too, and what may
        // read any table may do so.
        let any = |query: &Query| query.tables.iter().any(|t| t.contains(LATER));
        let reads = |query: Query| any(&query) || self.split(&query, means).1.iter().any(Named::moves);
        self.into.is_none() && self.parsed(means).is_ok_and(|query| !reads(query))
    }
}

struct Selecting {
    query: Query,
    inputs: Vec<String>,
    datasets: Vec<Named>,
    values: BTreeMap<String, Given>,
    into: Option<(String, How)>,
}

impl Selecting {
    /// What the result is made of: versions and, unless the plan says nothing of them, columns.
    async fn made_of(
        &self,
        job: &Job<'_>,
        read: &[(String, Dataset, u64)],
    ) -> Result<Lineage, contract::Error> {
        let mut lineage = Lineage::default();
        let mut places = Vec::new();
        for (_, dataset, version) in read {
            places.push(lineage.input(dataset.pinned(*version).await.map_err(|e| job.failed(e))?));
        }
        let mut output = Output::from(Thing::new(ThingKind::Dataset, ""));
        // What is wrong with the query is told by whoever runs it.
        if let Ok(traced) = job.warehouse.trace(&self.query, read).await {
            let place = |f: FromColumn| Some(FromColumn { input: *places.get(f.input)?, ..f });
            let moved = |from: Vec<FromColumn>| from.into_iter().filter_map(place).collect();
            let columns = traced.columns.into_iter().map(|c| ColumnMade { from: moved(c.from), ..c });
            (output.columns, output.rows) = (columns.collect(), moved(traced.rows));
        }
        lineage.outputs.push(output);
        Ok(lineage)
    }
}

impl Work for Selecting {
    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let (target, how) = match &self.into {
                Some((name, how)) => (job.dataset(name)?, how.clone()),
                None => (job.staging()?, How::Overwrite),
            };
            if let Some(done) = job.done(&target).await? {
                return Ok(done);
            }
            let (mut read, mut said): (Vec<(String, Dataset, u64)>, Vec<String>) = (Vec::new(), Vec::new());
            for name in &self.inputs {
                let table = Table::given(&job.warehouse, inputs, name).await?;
                said.push(format!("{}@{}", table.dataset.name(), table.version));
                read.push((name.clone(), table.dataset, table.version));
            }
            for named in &self.datasets {
                let dataset = job.dataset(&named.dataset)?;
                let version = dataset.resolve(&named.at).await.map_err(|e| job.failed(e))?;
                job.say(format!("{} is version {version} of {}", named.table, named.dataset));
                said.push(format!("{}@{version}", named.dataset));
                read.push((named.table.clone(), dataset, version));
            }
            let source = match said.as_slice() {
                [] => "a query".to_owned(),
                _ => format!("a query of {}", said.join(", ")),
            };
            let change = job.change(how, None, self.made_of(job, &read).await?);
            let rows =
                || -> BoxFuture<'_, _> { Box::pin(job.warehouse.query(&self.query, &read, &self.values)) };
            let added = job.put(&target, &change, &source, &rows).await?;
            Ok(table::value(&target, &added))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_filled_in_later_leaves_every_place_where_it_is() {
        let text = "select * from x\nwhere m = {{ params.month }} and y = 'a{{ b }}c' {% if x %} {# no #}";
        let masked = masked(text);
        assert_eq!(masked.chars().count(), text.chars().count());
        assert!(masked.starts_with("select * from x\nwhere m = xxxx"), "{masked}");
        assert!(Query::parse(&masked).is_ok(), "{masked}");
    }

    proptest! {
        #[test]
        fn masking_keeps_lines_and_lengths(text in "([a-z\n]|\\{\\{|\\}\\}|\\{%|%\\}|é){0,20}") {
            let masked = masked(&text);
            prop_assert_eq!(masked.chars().count(), text.chars().count());
            prop_assert_eq!(masked.lines().count(), text.lines().count());
            prop_assert!(!open(&masked));
        }
    }
}
