//! What is wrong with an expectation without looking at any data: with its place in the expectation and a remedy.

use crate::At;
use crate::expect::config::{self, Expectation};
use crate::expect::suite::Check;
use crate::expect::{Fault, sql};

/// The one check of an expectation, or everything that is wrong with it.
pub(super) fn checked(e: &Expectation) -> Result<Check, Vec<Fault>> {
    let mut found: Vec<Result<Check, Vec<Fault>>> = Vec::new();
    found.extend(e.schema.as_ref().map(schema));
    found.extend(
        e.not_null
            .as_ref()
            .map(|c| told(share("not_null/max_share", c.max_share), || Check::NotNull(c.clone()))),
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
        let remedy = "write a condition over the columns of a row, as `a <= b or c is null`";
        let fault = |why| Fault::new("sql/condition", format!("this cannot be read as SQL: {why}"), remedy);
        let wrong = sql::syntax(&c.condition).err().map(fault).into_iter().collect();
        told(wrong, || Check::Sql(c.condition.clone()))
    }));
    found.extend(e.references.as_ref().map(references));
    let many = found.len();
    match found.into_iter().next() {
        Some(check) if many == 1 => check,
        Some(_) => {
            let what = format!("this has {many} checks");
            Err(vec![Fault::new("", what, "write an expectation for each: begin each with `- `")])
        }
        None => Err(vec![Fault::new(
            "",
            "this checks nothing",
            "add one of schema, not_null, range, unique, set, pattern, length, freshness, volume, distribution, sql, \
             references",
        )]),
    }
}

fn told(problems: Vec<Fault>, check: impl FnOnce() -> Check) -> Result<Check, Vec<Fault>> {
    if problems.is_empty() { Ok(check()) } else { Err(problems) }
}

fn share(key: &str, value: f64) -> Vec<Fault> {
    if (0.0..=1.0).contains(&value) {
        return vec![];
    }
    vec![Fault::new(key, format!("{value} is no share of rows"), "give a number from 0 to 1, as 0.05")]
}

fn schema(c: &config::SchemaCheck) -> Result<Check, Vec<Fault>> {
    let (mut columns, mut problems) = (Vec::new(), Vec::new());
    for (name, ty) in &c.columns {
        match ty.as_str() {
            "any" => columns.push((name.clone(), None)),
            said => match said.parse() {
                Ok(ty) => columns.push((name.clone(), Some(ty))),
                Err(_) => {
                    let what = format!("`{said}` is no type of a column");
                    let key = yaml::tree::join("schema/columns", name);
                    problems.push(Fault::new(
                        key,
                        what,
                        yaml::problem::suggest(said, "the types are", TYPES.into_iter()),
                    ));
                }
            },
        }
    }
    told(problems, || Check::Schema { columns, closed: c.extra == config::Extra::Forbid })
}

/// The types that can be written, as a person writes them.
const TYPES: [&str; 11] = [
    "bool",
    "int",
    "float",
    "decimal(12, 2)",
    "text",
    "binary",
    "date",
    "timestamp",
    "datetime",
    "list<text>",
    "any",
];

fn range(c: &config::Range) -> Vec<Fault> {
    let mut problems = Vec::new();
    let scalar = |v: &serde_json::Value| v.is_number() || v.is_string();
    for (key, value) in [("range/min", &c.min), ("range/max", &c.max)] {
        if value.as_ref().is_some_and(|v| !scalar(v)) {
            problems.push(Fault::new(
                key,
                "this is neither a number nor a text",
                "write one, as 0 or \"2026-01-01\"",
            ));
        }
    }
    match (&c.min, &c.max) {
        (None, None) => {
            problems.push(Fault::new("range", "this range has no bound", "add `min`, `max` or both"));
        }
        (Some(min), Some(max)) => {
            if let (Some(low), Some(high)) = (min.as_f64(), max.as_f64())
                && low > high
            {
                problems.push(crossed("range/min", min, max));
            }
        }
        _ => {}
    }
    problems
}

/// A lower bound that is above the upper one.
pub(super) fn crossed(key: &str, min: impl std::fmt::Display, max: impl std::fmt::Display) -> Fault {
    Fault::new(key, format!("`min` {min} is above `max` {max}: every row would fail"), "exchange the two")
}

fn unique(c: &config::Unique) -> Vec<Fault> {
    let key = "unique/columns";
    let twice = c.columns.iter().enumerate().find(|(i, name)| c.columns.iter().take(*i).any(|o| o == *name));
    match (c.columns.is_empty(), twice) {
        (true, _) => vec![Fault::new(key, "this names no column", "name the columns that make a row unique")],
        (_, Some((at, name))) => {
            let key = format!("{key}/{at}");
            vec![Fault::new(key, format!("`{name}` is there twice"), "keep one of the two")]
        }
        _ => vec![],
    }
}

fn set(c: &config::Set) -> Vec<Fault> {
    if c.values.is_empty() {
        let what = "this set has no value: every row would fail";
        return vec![Fault::new("set/values", what, "list the values that may come")];
    }
    let odd =
        c.values.iter().enumerate().filter(|(_, v)| !(v.is_number() || v.is_string() || v.is_boolean()));
    let told = |(at, _)| {
        let key = format!("set/values/{at}");
        Fault::new(key, "this is not a number, text or bool", "write one; a null passes every set anyway")
    };
    odd.map(told).collect()
}

fn pattern(c: &config::Pattern) -> Vec<Fault> {
    let Err(error) = regex::Regex::new(&c.regex) else { return vec![] };
    let said = error.to_string();
    let why = said.rsplit("error: ").next().and_then(|why| why.lines().next()).unwrap_or(&said);
    let remedy =
        "write it in the syntax of Rust's regex (no look-around, no back-references), best in single quotes";
    vec![Fault::new("pattern/regex", format!("this is no regular expression: {why}"), remedy)]
}

fn bounds(key: &str, min: Option<u64>, max: Option<u64>) -> Vec<Fault> {
    match (min, max) {
        (None, None) => vec![Fault::new(key, format!("this {key} has no bound"), "add `min`, `max` or both")],
        (Some(min), Some(max)) if min > max => vec![crossed(&format!("{key}/min"), min, max)],
        _ => vec![],
    }
}

fn volume(c: &config::Volume) -> Vec<Fault> {
    let Some(history) = &c.history else {
        return match (c.min, c.max) {
            (None, None) => {
                let remedy = "add `min`, `max`, or `history: {versions: 7, within: 0.5}`";
                vec![Fault::new("volume", "this volume has no bound", remedy)]
            }
            (min, max) => bounds("volume", min, max),
        };
    };
    let mut problems = match (c.min, c.max) {
        (None, None) => vec![],
        (min, max) => bounds("volume", min, max),
    };
    if history.versions == 0 {
        let what = "there is nothing to compare with";
        problems.push(Fault::new("volume/history/versions", what, "give at least 1"));
    }
    if !(history.within >= 0.0 && history.within.is_finite()) {
        let what = format!("{} is no share of the mean", history.within);
        problems.push(Fault::new("volume/history/within", what, "give 0 or more, as 0.5 for half"));
    }
    problems
}

fn freshness(c: &config::Freshness) -> Result<Check, Vec<Fault>> {
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
        None => {
            let remedy = "write a whole number and s, m, h or d, as 36h";
            Err(vec![Fault::new("freshness/max_age", format!("`{said}` is no length of time"), remedy)])
        }
    }
}

fn distribution(c: &config::Distribution) -> Result<Check, Vec<Fault>> {
    let max_psi = c.max_psi.unwrap_or(0.2);
    let mut problems = Vec::new();
    if !(max_psi > 0.0 && max_psi.is_finite()) {
        let what = format!("{max_psi} is no limit that anything stays below");
        problems.push(Fault::new("distribution/max_psi", what, "give a number above 0, as 0.2"));
    }
    match version("distribution/against", &c.against) {
        Ok(against) if problems.is_empty() => {
            Ok(Check::Distribution { column: c.column.clone(), against, max_psi })
        }
        Ok(_) => Err(problems),
        Err(fault) => {
            problems.push(fault);
            Err(problems)
        }
    }
}

fn references(c: &config::References) -> Result<Check, Vec<Fault>> {
    let at = version("references/at", c.at.as_deref().unwrap_or_default()).map_err(|fault| vec![fault])?;
    Ok(Check::References { column: c.column.clone(), dataset: c.dataset.clone(), key: c.key.clone(), at })
}

fn version(key: &str, text: &str) -> Result<At, Fault> {
    let remedy = "write a version as @7, @2026-01-31 or @a-tag";
    text.parse().map_err(|_| Fault::new(key, format!("`{text}` names no version"), remedy))
}
