//! What names, keys and values may be: the limits of MLflow's server, in its words. A parameter or a tag that is too long is cut, as
//! it does.

mod webhook;

use store::tracking::{DatasetInput, Logged, Metric, Pair, Refused};

use crate::posix::{cut, dumps, normpath, repr};
pub use webhook::{webhook_name, webhook_text, webhook_url, webhook_without_events};

type Checked<T = ()> = Result<T, Refused>;

/// Metrics in a request.
pub const METRICS: usize = 1_000;
/// Parameters in a request, and tags.
pub const PAIRS: usize = 100;
/// All of them together.
pub const ENTITIES: usize = 1_000;
const KEY: usize = 250;
const PARAM: usize = 6_000;
const TAG: usize = 8_000;
const EXPERIMENT_TAG: usize = 20_000;
const EXPERIMENT_NAME: usize = 500;
const REGISTRY_TAG: usize = 100_000;
const ALIAS: usize = 255;

const CHARACTERS: &str = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), \
                          colon(:) and slashes (/).";

fn invalid(path: &str, value: &str, message: &str) -> Refused {
    let value = dumps(value);
    let tail = if message.is_empty() { ".".to_owned() } else { format!(": {message}") };
    Refused::invalid(format!("Invalid value {value} for parameter '{path}' supplied{tail}"))
}

/// That a parameter is missing.
pub fn missing(path: &str) -> Refused {
    Refused::invalid(format!("Missing value for required parameter '{path}'."))
}

fn length(name: &str, limit: usize, value: &str) -> Checked {
    if value.chars().nth(limit).is_none() {
        return Ok(());
    }
    Err(Refused::invalid(format!("'{name}' exceeds the maximum length of {limit} characters")))
}

/// Part of a longer path in a request: `metrics[3].name`.
fn within(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether a path names something else than itself.
fn elsewhere(name: &str) -> bool {
    let norm = normpath(name);
    norm != name || norm == "." || norm.starts_with("..") || norm.starts_with('/')
}

fn resolves(name: &str) -> String {
    format!(
        "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. \
         This name would resolve to {}",
        repr(&normpath(name))
    )
}

/// A key of a metric, a parameter or a tag.
///
/// # Errors
/// Of characters that none may have, and of a path that leads elsewhere.
pub fn key(name: &str, path: &str) -> Checked {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | ' ' | ':');
    // Python's `$` stands before a newline at the end, too.
    if !name.strip_suffix('\n').unwrap_or(name).chars().all(allowed) {
        return Err(invalid(path, name, CHARACTERS));
    }
    if elsewhere(name) {
        return Err(invalid(path, name, &resolves(name)));
    }
    Ok(())
}

fn metric(m: &Metric, path: &str) -> Checked {
    key(&m.key, &within(path, "name"))?;
    if m.at < 0 {
        let value = number(m.value);
        return Err(Refused::invalid(format!(
            "Invalid value {} for parameter '{}' supplied: metric '{}' (value={value}). \
             Timestamp must be a nonnegative long (64-bit integer) ",
            m.at,
            within(path, "timestamp"),
            m.key
        )));
    }
    length("Metric name", KEY, &m.key)
}

/// A double as Python shows it.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    format!("{value:?}")
}

fn param((name, value): &Pair, path: &str) -> Checked<Pair> {
    key(name, &within(path, "key"))?;
    length("Param key", KEY, name)?;
    Ok((name.clone(), cut(value, PARAM).to_owned()))
}

fn tag((name, value): &Pair, path: &str) -> Checked<Pair> {
    let path_of_key = within(path, "key");
    key(name, &path_of_key)?;
    length(&path_of_key, KEY, name)?;
    Ok((name.clone(), cut(value, TAG).to_owned()))
}

fn batch(what: &str, limit: usize, count: usize) -> Checked {
    if count <= limit {
        return Ok(());
    }
    Err(Refused::invalid(format!(
        "A batch logging request can contain at most {limit} {what}. Got {count} {what}. \
         Please split up {what} across multiple requests and try again."
    )))
}

/// One metric, one parameter or one tag that is logged alone.
///
/// # Errors
/// Of a name or a time that none may have.
pub fn single(logged: Logged) -> Checked<Logged> {
    logged.metrics.iter().try_for_each(|m| metric(m, ""))?;
    let params = logged.params.iter().map(|p| param(p, "")).collect::<Checked<_>>()?;
    let tags = logged.tags.iter().map(|t| tag(t, "")).collect::<Checked<_>>()?;
    Ok(Logged { metrics: logged.metrics, params, tags })
}

/// What is logged in a batch.
///
/// # Errors
/// Of names that none may have, of more than fits, and of a parameter that is there twice.
pub fn logged(logged: Logged) -> Checked<Logged> {
    let Logged { metrics, params, tags } = logged;
    for (n, m) in metrics.iter().enumerate() {
        metric(m, &format!("metrics[{n}]"))?;
    }
    let at = |what: &str, n: usize| format!("{what}[{n}]");
    let params =
        params.iter().enumerate().map(|(n, p)| param(p, &at("params", n))).collect::<Checked<Vec<_>>>()?;
    let tags = tags.iter().enumerate().map(|(n, t)| tag(t, &at("tags", n))).collect::<Checked<Vec<_>>>()?;
    batch("metrics", METRICS, metrics.len())?;
    batch("params", PAIRS, params.len())?;
    batch("tags", PAIRS, tags.len())?;
    batch("metrics, params, and tags", ENTITIES, metrics.len() + params.len() + tags.len())?;
    let twice =
        |(n, p): (usize, &Pair)| params.iter().take(n).any(|earlier| earlier.0 == p.0).then(|| repr(&p.0));
    let twice: Vec<String> = params.iter().enumerate().filter_map(twice).collect();
    if !twice.is_empty() {
        return Err(Refused::invalid(format!(
            "Duplicate parameter keys have been submitted: [{}]. Please ensure the request contains only one param \
             value per param key.",
            twice.join(", ")
        )));
    }
    Ok(Logged { metrics, params, tags })
}

/// The id of a run, where it is looked at.
///
/// # Errors
/// Of one that none could be.
pub fn run_id(id: &str) -> Checked {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let first = id.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && id.chars().all(word) && id.chars().nth(256).is_none() {
        return Ok(());
    }
    Err(invalid("run_id", id, ""))
}

/// The number of an experiment; an empty one is that of the first.
///
/// # Errors
/// Of what is no number.
pub fn experiment_id(id: &str) -> Checked<i64> {
    if id.is_empty() {
        return Ok(0);
    }
    id.trim().parse().map_err(|_| {
        Refused::invalid(format!("Invalid experiment ID '{id}'. Experiment ID must be a valid integer."))
    })
}

/// The name of an experiment.
///
/// # Errors
/// Of an empty or a long one.
pub fn experiment_name(name: &str) -> Checked {
    if name.is_empty() {
        return Err(Refused::invalid("Invalid experiment name: ''"));
    }
    length("name", EXPERIMENT_NAME, name)
}

/// A tag of an experiment.
///
/// # Errors
/// Of a key that none may have, and of one that is too long.
pub fn experiment_tag(name: &str, value: &str) -> Checked {
    key(name, "key")?;
    length("key", KEY, name)?;
    length("value", EXPERIMENT_TAG, value)
}

/// A tag of a registered model or a version of one.
///
/// # Errors
/// Of a key that none may have, and of one that is too long.
pub fn registry_tag(name: &str, value: &str) -> Checked {
    key(name, "key")?;
    length("key", KEY, name)?;
    length("value", REGISTRY_TAG, value)
}

/// The name of a registered model.
///
/// # Errors
/// Of an empty one, and of one that could be a path or an address.
pub fn model_name(name: &str) -> Checked {
    if name.trim().is_empty() {
        return Err(missing("name"));
    }
    if name.contains(['/', ':']) {
        return Err(Refused::invalid(format!(
            "Invalid model name '{name}'. Names cannot contain '/' or ':'."
        )));
    }
    if elsewhere(name) {
        return Err(invalid("name", name, &resolves(name)));
    }
    Ok(())
}

/// The name of a logged model.
///
/// # Errors
/// Of an empty one, and of one with signs that addresses have.
pub fn logged_model_name(name: &str) -> Checked {
    if !name.is_empty() && !name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Ok(());
    }
    Err(Refused::invalid(format!(
        "Invalid model name ({}) provided. Model name must be a non-empty string and cannot contain the following \
         characters: ('/', ':', '.', '%', '\"', \"'\")",
        repr(name)
    )))
}

/// The number of a version.
///
/// # Errors
/// Of what is no number.
pub fn version(text: &str) -> Checked<i64> {
    text.trim()
        .parse()
        .map_err(|_| Refused::invalid(format!("Parameter 'version' must be an integer, got '{text}'.")))
}

/// An alias.
///
/// # Errors
/// Of one that none may be.
pub fn alias(name: &str) -> Checked {
    if name.is_empty() {
        return Err(Refused::invalid("Registered model alias name cannot be empty."));
    }
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(Refused::invalid(format!(
            "Invalid alias name: '{name}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )));
    }
    length("Registered model alias name", ALIAS, name)
}

/// The same, of one that is to be set.
///
/// # Errors
/// Also of names that mean something already.
pub fn new_alias(name: &str) -> Checked {
    alias(name)?;
    if name.eq_ignore_ascii_case("latest") {
        return Err(Refused::invalid("'latest' alias name (case insensitive) is reserved."));
    }
    let number = name.strip_prefix(['v', 'V']).filter(|n| !n.is_empty());
    if number.is_some_and(|n| n.chars().all(|c| c.is_ascii_digit())) {
        return Err(Refused::invalid(format!("Version alias name '{name}' is reserved.")));
    }
    Ok(())
}

/// A stage of a version, as it is written.
///
/// # Errors
/// Of one that there is not.
pub fn version_stage(stage: &str) -> Checked<&'static str> {
    const STAGES: [&str; 4] = ["None", "Staging", "Production", "Archived"];
    STAGES.into_iter().find(|s| s.eq_ignore_ascii_case(stage)).ok_or_else(|| {
        Refused::invalid(format!(
            "Invalid Model Version stage: {stage}. Value must be one of None, Staging, Production, Archived."
        ))
    })
}

/// Datasets that a run read.
///
/// # Errors
/// Of one with a field that is too long.
pub fn inputs(datasets: &[DatasetInput]) -> Checked {
    for DatasetInput { dataset, tags } in datasets {
        length("name", 500, &dataset.name)?;
        length("digest", 36, &dataset.digest)?;
        length("source", 65_535, &dataset.source)?;
        length("schema", 1_048_575, dataset.schema.as_deref().unwrap_or_default())?;
        length("profile", 16_777_215, dataset.profile.as_deref().unwrap_or_default())?;
        for (name, value) in tags {
            length("key", 255, name)?;
            length("value", 500, value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_said_as_mlflow_says_it() {
        let said = |r: Checked| r.unwrap_err().message;
        assert_eq!(
            said(key("a*", "key")),
            format!("Invalid value \"a*\" for parameter 'key' supplied: {CHARACTERS}")
        );
        assert_eq!(said(key("a//b", "key")).lines().count(), 1);
        assert_eq!(said(model_name(" ")), "Missing value for required parameter 'name'.");
        assert_eq!(said(new_alias("V12")), "Version alias name 'V12' is reserved.");
        assert!(new_alias("v1x").is_ok() && alias("latest").is_ok());
        assert_eq!(
            experiment_id("x").unwrap_err().message,
            "Invalid experiment ID 'x'. Experiment ID must be a valid integer."
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_a_parameter_twice_is_refused() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let of = |params| Logged { params, ..Logged::default() };
        let cut = logged(of(vec![pair("a", &"x".repeat(PARAM + 9))])).unwrap();
        assert_eq!(cut.params.first().map(|p| p.1.len()), Some(PARAM));
        let twice = logged(of(vec![pair("a", "1"), pair("b", "1"), pair("a", "1")])).unwrap_err();
        assert!(twice.message.starts_with("Duplicate parameter keys have been submitted: ['a']."));
        let many = (0..101).map(|n| pair(&n.to_string(), "")).collect();
        assert!(logged(of(many)).unwrap_err().message.contains("at most 100 params. Got 101 params."));
    }
}
