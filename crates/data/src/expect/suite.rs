//! Expectations that make sense in themselves: what is wrong without looking at any data is said here, all of it at once.

use arrow::array::StringArray;
use arrow::compute::regexp_is_match_scalar;

use crate::expect::config::{self, Config, Expectation};
use crate::expect::{Problem, Severity, sql};
use crate::{At, ColumnType, Error};

/// Validated expectations.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    pub(crate) expected: Vec<Expected>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) severity: Severity,
    pub(crate) check: Check,
}

/// What is checked; the parts that are texts in the file are what they mean here.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    Schema { columns: Vec<(String, Option<ColumnType>)>, closed: bool },
    NotNull(config::NotNull),
    Range(config::Range),
    Unique(config::Unique),
    Set(config::Set),
    Pattern(config::Pattern),
    Length(config::Length),
    Freshness { column: String, max_age_ms: i64, said: String },
    Volume(config::Volume),
    Distribution { column: String, against: At, max_psi: f64 },
    Sql(String),
    References { column: String, dataset: String, key: String, at: At },
}

impl Check {
    /// The name of the check, as it is written.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Check::Schema { .. } => "schema",
            Check::NotNull(_) => "not_null",
            Check::Range(_) => "range",
            Check::Unique(_) => "unique",
            Check::Set(_) => "set",
            Check::Pattern(_) => "pattern",
            Check::Length(_) => "length",
            Check::Freshness { .. } => "freshness",
            Check::Volume(_) => "volume",
            Check::Distribution { .. } => "distribution",
            Check::Sql(_) => "sql",
            Check::References { .. } => "references",
        }
    }

    fn title(&self) -> String {
        let of = match self {
            Check::Schema { .. } | Check::Volume(_) => return self.kind().to_owned(),
            Check::NotNull(c) => c.column.clone(),
            Check::Range(c) => c.column.clone(),
            Check::Unique(c) => c.columns.join(", "),
            Check::Set(c) => c.column.clone(),
            Check::Pattern(c) => c.column.clone(),
            Check::Length(c) => c.column.clone(),
            Check::Sql(condition) => condition.clone(),
            Check::Freshness { column, .. }
            | Check::Distribution { column, .. }
            | Check::References { column, .. } => column.clone(),
        };
        format!("{} of {of}", self.kind())
    }
}

impl Suite {
    /// Validates what somebody wrote.
    ///
    /// # Errors
    /// [`Error::Expectations`] with every problem there is.
    pub fn new(config: &Config) -> Result<Suite, Error> {
        let mut problems = Vec::new();
        let mut suite = Suite::default();
        for (at, expectation) in config.expectations.iter().enumerate() {
            let place = format!("expectations[{at}]");
            match checked(expectation) {
                Ok(check) => {
                    let name = expectation.name.clone().unwrap_or_else(|| check.title());
                    if suite.expected.iter().any(|other| other.name == name) {
                        let what = format!("the name `{name}` is taken; give each its own `name`");
                        problems.push(Problem { place, what });
                    } else {
                        suite.expected.push(Expected { name, severity: expectation.severity, check });
                    }
                }
                Err(found) => {
                    problems.extend(found.into_iter().map(|what| Problem { place: place.clone(), what }));
                }
            }
        }
        if problems.is_empty() { Ok(suite) } else { Err(Error::Expectations { problems }) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// Whether what comes of them depends on the rows alone: not on versions before, other datasets or the clock.
    pub fn of_rows_alone(&self) -> bool {
        self.expected.iter().all(|expected| match &expected.check {
            Check::Freshness { .. } | Check::Distribution { .. } | Check::References { .. } => false,
            Check::Volume(volume) => volume.history.is_none(),
            _ => true,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty()
    }
}

/// The one check of an expectation, or everything that is wrong with it.
fn checked(e: &Expectation) -> Result<Check, Vec<String>> {
    let mut found: Vec<Result<Check, Vec<String>>> = Vec::new();
    found.extend(e.schema.as_ref().map(schema));
    found.extend(
        e.not_null.as_ref().map(|c| told(share("max_share", c.max_share), || Check::NotNull(c.clone()))),
    );
    found.extend(e.range.as_ref().map(|c| told(range(c), || Check::Range(c.clone()))));
    found.extend(e.unique.as_ref().map(|c| told(unique(c), || Check::Unique(c.clone()))));
    found.extend(e.set.as_ref().map(|c| told(set(c), || Check::Set(c.clone()))));
    found.extend(e.pattern.as_ref().map(|c| told(pattern(c), || Check::Pattern(c.clone()))));
    found.extend(e.length.as_ref().map(|c| {
        told(bounds("length", c.min.map(u64::from), c.max.map(u64::from)), || Check::Length(c.clone()))
    }));
    found.extend(e.freshness.as_ref().map(freshness));
    found.extend(e.volume.as_ref().map(|c| told(volume(c), || Check::Volume(c.clone()))));
    found.extend(e.distribution.as_ref().map(distribution));
    found.extend(e.sql.as_ref().map(|c| {
        let wrong = sql::syntax(&c.condition).err().into_iter().collect();
        told(wrong, || Check::Sql(c.condition.clone()))
    }));
    found.extend(e.references.as_ref().map(references));
    let many = found.len();
    match found.into_iter().next() {
        Some(check) if many == 1 => check,
        Some(_) => Err(vec![format!("it has {many} checks; write one expectation for each")]),
        None => Err(vec![
            "it checks nothing; add one of schema, not_null, range, unique, set, pattern, length, freshness, volume, \
             distribution, sql, references"
                .to_owned(),
        ]),
    }
}

fn told(problems: Vec<String>, check: impl FnOnce() -> Check) -> Result<Check, Vec<String>> {
    if problems.is_empty() { Ok(check()) } else { Err(problems) }
}

fn share(key: &str, value: f64) -> Vec<String> {
    if (0.0..=1.0).contains(&value) { vec![] } else { vec![format!("`{key}` is {value}; a share is 0 to 1")] }
}

fn schema(c: &config::SchemaCheck) -> Result<Check, Vec<String>> {
    let (mut columns, mut problems) = (Vec::new(), Vec::new());
    for (name, ty) in &c.columns {
        match ty.as_str() {
            "any" => columns.push((name.clone(), None)),
            ty => match ty.parse() {
                Ok(ty) => columns.push((name.clone(), Some(ty))),
                Err(error) => problems.push(format!("the column `{name}`: cannot {error}")),
            },
        }
    }
    told(problems, || Check::Schema { columns, closed: c.extra == config::Extra::Forbid })
}

fn range(c: &config::Range) -> Vec<String> {
    let mut problems = Vec::new();
    let scalar = |v: &serde_json::Value| v.is_number() || v.is_string();
    for (key, value) in [("min", &c.min), ("max", &c.max)] {
        if value.as_ref().is_some_and(|v| !scalar(v)) {
            problems.push(format!("`{key}` is neither a number nor a text"));
        }
    }
    match (&c.min, &c.max) {
        (None, None) => problems.push("a range needs `min`, `max` or both".to_owned()),
        (Some(min), Some(max)) => {
            if let (Some(low), Some(high)) = (min.as_f64(), max.as_f64())
                && low > high
            {
                problems.push(format!("`min` {min} is above `max` {max}"));
            }
        }
        _ => {}
    }
    problems
}

fn unique(c: &config::Unique) -> Vec<String> {
    let twice = c.columns.iter().enumerate().find(|(i, name)| c.columns.iter().take(*i).any(|o| o == *name));
    match (c.columns.is_empty(), twice) {
        (true, _) => vec!["`columns` is empty".to_owned()],
        (_, Some((_, name))) => vec![format!("`columns` has `{name}` twice")],
        _ => vec![],
    }
}

fn set(c: &config::Set) -> Vec<String> {
    let mut problems = Vec::new();
    if c.values.is_empty() {
        problems.push("`values` is empty: every row would fail".to_owned());
    }
    if let Some(odd) = c.values.iter().find(|v| !(v.is_number() || v.is_string() || v.is_boolean())) {
        problems.push(format!("`values` has {odd}, which is not a number, text or bool"));
    }
    problems
}

fn pattern(c: &config::Pattern) -> Vec<String> {
    let none = StringArray::from(vec![""]);
    regexp_is_match_scalar(&none, &c.regex, None)
        .err()
        .map(|e| format!("`regex` is not a regular expression: {e}"))
        .into_iter()
        .collect()
}

fn bounds(what: &str, min: Option<u64>, max: Option<u64>) -> Vec<String> {
    match (min, max) {
        (None, None) => vec![format!("a {what} needs `min`, `max` or both")],
        (Some(min), Some(max)) if min > max => vec![format!("`min` {min} is above `max` {max}")],
        _ => vec![],
    }
}

fn volume(c: &config::Volume) -> Vec<String> {
    let Some(history) = &c.history else { return bounds("volume without `history`", c.min, c.max) };
    let mut problems = match (c.min, c.max) {
        (None, None) => vec![],
        (min, max) => bounds("volume", min, max),
    };
    if history.versions == 0 {
        problems.push("`history.versions` is 0: there is nothing to compare with".to_owned());
    }
    if !(history.within >= 0.0 && history.within.is_finite()) {
        problems.push(format!("`history.within` is {}; a share is 0 or more", history.within));
    }
    problems
}

fn freshness(c: &config::Freshness) -> Result<Check, Vec<String>> {
    let said = c.max_age.trim();
    let digits = said.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: Option<i64> = match said.get(digits.len()..).unwrap_or_default() {
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let max_age_ms =
        digits.trim().parse::<u32>().ok().zip(unit).and_then(|(n, unit)| i64::from(n).checked_mul(unit));
    match max_age_ms {
        Some(max_age_ms) => {
            Ok(Check::Freshness { column: c.column.clone(), max_age_ms, said: said.to_owned() })
        }
        None => Err(vec![format!("`max_age` is `{said}`; write a whole number and s, m, h or d, as 36h")]),
    }
}

fn distribution(c: &config::Distribution) -> Result<Check, Vec<String>> {
    let max_psi = c.max_psi.unwrap_or(0.2);
    let mut problems = Vec::new();
    if !(max_psi > 0.0 && max_psi.is_finite()) {
        problems.push(format!("`max_psi` is {max_psi}; it is above 0, as 0.2"));
    }
    let against = c.against.parse();
    if let Err(error) = &against {
        problems.push(format!("`against`: cannot {error}"));
    }
    match against {
        Ok(against) if problems.is_empty() => {
            Ok(Check::Distribution { column: c.column.clone(), against, max_psi })
        }
        _ => Err(problems),
    }
}

fn references(c: &config::References) -> Result<Check, Vec<String>> {
    let at = c.at.as_deref().unwrap_or_default().parse();
    match at {
        Ok(at) => Ok(Check::References {
            column: c.column.clone(),
            dataset: c.dataset.clone(),
            key: c.key.clone(),
            at,
        }),
        Err(error) => Err(vec![format!("`at`: cannot {error}")]),
    }
}
