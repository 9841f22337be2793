//! Price tables: LiteLLM's JSON format in, integer nanodollars with effective dates kept, and the join with the models
//! of a configuration.
//!
//! Prices are read from their decimal text, never through floating point. Every class of a price per token is kept by
//! its name in the format (`input_cost_per_token`, `…_batches`, `…_priority`, `…_flex`, `…_above_200k_tokens`,
//! `cache_read_input_token_cost`, …); bills use those that a usage tells apart: input, output, cache reads, and the
//! classes of long prompts.

mod history;
mod join;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use history::{Changes, Dated, History};
pub use join::{Upstream, provider_of};

/// What a table says of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// LiteLLM's name of the provider.
    pub provider: String,
    /// `chat`, `embedding`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Prices by class, in nanodollars per million tokens.
    pub prices: BTreeMap<String, i64>,
    /// The longest prompt in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_tokens: Option<u64>,
    /// The longest answer in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
}

/// A table: models by name, and models that were left out with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Models by name.
    pub models: BTreeMap<String, Entry>,
    /// Models whose entry cannot be used, and why.
    pub refused: BTreeMap<String, String>,
}

/// Reads a table in LiteLLM's format. Entries without a price per token (images, audio, …) and `sample_spec` are passed
/// over.
///
/// # Errors
/// When the text is no JSON object; a bad entry is in [`Table::refused`].
pub fn read(text: &str) -> Result<Table, serde_json::Error> {
    let rows: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let mut table = Table::default();
    for (name, raw) in rows.into_iter().filter(|(name, _)| name != "sample_spec") {
        let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get());
        match fields.map_err(|e| e.to_string()).and_then(|fields| entry(&fields)) {
            Ok(Some(entry)) => {
                table.models.insert(name, entry);
            }
            Ok(None) => {}
            Err(why) => {
                table.refused.insert(name, why);
            }
        }
    }
    Ok(table)
}

/// Whether a field is a price per token.
fn is_price(field: &str) -> bool {
    ["input_", "output_", "cache_"].iter().any(|start| field.starts_with(start))
        && (field.contains("cost_per_token") || field.contains("token_cost"))
}

fn entry(fields: &BTreeMap<String, &RawValue>) -> Result<Option<Entry>, String> {
    let raw = |name: &str| fields.get(name).map(|r| r.get()).filter(|r| *r != "null");
    if raw("input_cost_per_token").is_none() {
        return Ok(None);
    }
    let mut prices = BTreeMap::new();
    for (name, value) in fields.iter().filter(|(name, v)| is_price(name) && v.get() != "null") {
        prices.insert(name.clone(), per_million(value.get())?);
    }
    let count = |name: &str| {
        let text = raw(name)?.trim_matches('"');
        // Some tables write `8192.0`.
        text.strip_suffix(".0").unwrap_or(text).parse::<u64>().ok().filter(|n| *n > 0)
    };
    let word =
        |name: &str| raw(name).and_then(|r| serde_json::from_str::<String>(r).ok()).unwrap_or_default();
    Ok(Some(Entry {
        provider: word("litellm_provider"),
        mode: word("mode"),
        prices,
        max_input_tokens: count("max_input_tokens").or_else(|| count("max_tokens")),
        max_output_tokens: count("max_output_tokens"),
    }))
}

/// Dollars per token as decimal text (`1.5e-07`) → nanodollars per million tokens: a shift by fifteen places, rounded to
/// the nearest where a price is finer than that.
///
/// # Errors
/// When the text is no number of at least 0, or does not fit.
pub fn per_million(text: &str) -> Result<i64, String> {
    let bad = || format!("`{text}` is not a price per token");
    let number = text.trim().trim_matches('"');
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().map_err(|_| bad())?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 38 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let value: u128 = digits.parse().map_err(|_| bad())?;
    let places = i32::try_from(fraction.len()).map_err(|_| bad())?;
    let shift = exponent.checked_sub(places).and_then(|s| s.checked_add(15)).ok_or_else(bad)?;
    if value == 0 {
        return Ok(0);
    }
    let shifted = match 10_u128.checked_pow(shift.unsigned_abs()) {
        Some(ten) if shift >= 0 => value.checked_mul(ten),
        Some(ten) => Some(value / ten + u128::from(value % ten >= ten - value % ten)),
        // Too large for a number, or too small to count.
        None => (shift < 0).then_some(0),
    };
    shifted.and_then(|n| i64::try_from(n).ok()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_published_table_is_read_exactly() {
        let table = read(
            r#"{"sample_spec": {"input_cost_per_token": 0.0, "max_tokens": "a note"},
                "mini": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07, "litellm_provider": "openai",
                         "cache_read_input_token_cost": 7.5e-08, "input_cost_per_token_batches": 7.5e-8,
                         "input_cost_per_token_above_200k_tokens": null, "search_context_cost_per_query": {"a": 1},
                         "max_input_tokens": 128000, "max_output_tokens": 16384.0, "mode": "chat"},
                "odd": {"input_cost_per_token": "dear"}, "image": {"mode": "image_generation"}}"#,
        )
        .unwrap();
        let prices = [
            ("cache_read_input_token_cost", 75_000_000),
            ("input_cost_per_token", 150_000_000),
            ("input_cost_per_token_batches", 75_000_000),
            ("output_cost_per_token", 600_000_000),
        ];
        let mini = Entry {
            provider: "openai".into(),
            mode: "chat".into(),
            prices: prices.into_iter().map(|(n, p)| (n.to_owned(), p)).collect(),
            max_input_tokens: Some(128_000),
            max_output_tokens: Some(16_384),
        };
        assert_eq!(table.models, [("mini".to_owned(), mini)].into_iter().collect());
        assert_eq!(table.refused.keys().collect::<Vec<_>>(), ["odd"]);
    }

    #[test]
    fn a_price_finer_than_a_nanodollar_a_million_is_rounded() {
        assert_eq!(per_million("1.1428571428571428e-06"), Ok(1_142_857_143));
        assert_eq!((per_million("4e-16"), per_million("5e-16"), per_million("1e-99")), (Ok(0), Ok(1), Ok(0)));
        assert!(per_million("1e99").is_err() && per_million("-1e-7").is_err());
    }

    proptest! {
        #[test]
        fn any_price_is_read_back_exactly(nanos in 0..i64::MAX) {
            prop_assert_eq!(per_million(&format!("{nanos}e-15")), Ok(nanos));
            prop_assert_eq!(per_million(&format!("0.{nanos:0>36}e21")), Ok(nanos));
        }

        #[test]
        fn any_text_is_a_price_or_an_error(text in ".*") {
            let _ = (per_million(&text), read(&text));
        }
    }
}
