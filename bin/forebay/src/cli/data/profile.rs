//! `forebay data profile`: what the columns of a version are like, and expectations that follow from it.

use std::path::PathBuf;

use data::expect::{Expectation, Profile};
use serde_json::Value;

use super::{Global, Project, Reference, cell, failed, rows, table};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset and, behind `@`, a version, a tag, a time or the beginning of a name.
    #[arg(value_name = "DATASET[@VERSION]")]
    of: Reference,
    /// Write expectations that the version meets to this file, or to standard output when no file is named.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    suggest: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let profile = project.dataset(&args.of.dataset)?.profile(&args.of.at).await.map_err(failed)?;
    if let Some(file) = &args.suggest {
        let text = yaml(&args.of.dataset, &profile)?;
        if file.as_os_str() == "-" {
            print(text.trim_end());
            return Ok(());
        }
        if file.exists() {
            let help = "name another file, or remove it: what a person wrote is not overwritten";
            return Err(Error::new(format!("{} is there already", file.display()), help));
        }
        if let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::file("create", folder, &e))?;
        }
        std::fs::write(file, text).map_err(|e| Error::file("write", file, &e))?;
        print(&format!("{} expectations in {}", profile.proposed.expectations.len(), file.display()));
        return Ok(());
    }
    if global.json {
        return print_json(&profile);
    }
    print(&format!("{}@{}: {}", args.of.dataset, profile.version, rows(profile.rows)));
    let mut table = table(["column", "type", "nulls", "min", "max", "characters", "values"]);
    for c in &profile.columns {
        let bound = |value: &Option<Value>| value.as_ref().map(cell).unwrap_or_default();
        let values = c.values.as_ref().map(|v| v.join(", ")).unwrap_or_default();
        let shown: String = values.chars().take(60).collect();
        let shown = if shown.len() < values.len() { shown + "…" } else { shown };
        table.add_row([
            clean(&c.name),
            c.ty.clone(),
            (c.nulls + c.nans).to_string(),
            bound(&c.min),
            bound(&c.max),
            c.characters.map(|(low, high)| format!("{low}–{high}")).unwrap_or_default(),
            clean(&shown),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}

/// Expectations as a person would write them: a list, each entry's check on one line. What is in braces is JSON, which YAML reads.
fn yaml(dataset: &str, profile: &Profile) -> Result<String, Error> {
    let version = profile.version;
    let mut text = format!(
        "# Proposed from {dataset}@{version}: keep what is meant, change what was chance.\nexpectations:\n"
    );
    for expectation in &profile.proposed.expectations {
        text.push_str(&entry(expectation)?);
    }
    if profile.proposed.expectations.is_empty() {
        text.push_str("  []\n");
    }
    Ok(text)
}

fn entry(expectation: &Expectation) -> Result<String, Error> {
    let failed =
        |e: serde_json::Error| Error::new(format!("cannot write an expectation: {e}"), "report this");
    let value = serde_json::to_value(expectation).map_err(failed)?;
    let mut text = String::new();
    let fields = value.as_object().into_iter().flatten().filter(|(name, value)| {
        // What an entry says anyway when it says nothing.
        let usual = name.as_str() == "severity" && value.as_str() == Some("error");
        !value.is_null() && !usual
    });
    for (n, (name, value)) in fields.enumerate() {
        let start = if n == 0 { "  - " } else { "    " };
        text.push_str(&format!("{start}{name}: {}\n", flow(value)));
    }
    Ok(text)
}

/// A value in the flow style of YAML, keys and plain words without quotes.
fn flow(value: &Value) -> String {
    let plain = |text: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(word)
            && !reserved.contains(&text.to_ascii_lowercase().as_str())
    };
    match value {
        Value::String(text) if plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                let key = if plain(key) { key.clone() } else { Value::from(key.as_str()).to_string() };
                format!("{key}: {}", flow(value))
            };
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        // JSON is YAML, but for the braces of a placeholder, which nothing here fills.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::spans;

    proptest! {
        #[test]
        fn what_is_written_reads_back(texts in proptest::collection::vec("[a-zA-Z0-9_:#{}\\[\\]\"' ,.-]{0,12}", 1..5), number: i32) {
            let value = serde_json::json!({"column": texts[0], "values": texts, "min": number});
            let parsed = spans::parse(&format!("x: {}\n", flow(&value)));
            prop_assert_eq!(parsed.root.unwrap().to_json()["x"].clone(), value);
        }
    }
}
