//! Price tables in LiteLLM's JSON format → [`contract::Price`], exactly: prices are read from their decimal text,
//! never through floating point.

use std::collections::BTreeMap;

use contract::Price;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What the table knows of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What it costs, in nanodollars per million tokens.
    pub price: Price,
    /// Tokens of prompt and answer together.
    pub context_window: Option<u64>,
    /// The longest answer in tokens.
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

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    input_cost_per_token: Option<&'a RawValue>,
    #[serde(borrow)]
    output_cost_per_token: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_read_input_token_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    max_input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
}

/// Reads a table. Entries without a price per token (images, audio, …) and `sample_spec` are passed over.
///
/// # Errors
/// When the text is no JSON object; a bad entry is in [`Table::refused`].
pub fn read(text: &str) -> Result<Table, serde_json::Error> {
    let rows: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let mut table = Table::default();
    for (name, raw) in rows.into_iter().filter(|(name, _)| name != "sample_spec") {
        match serde_json::from_str::<Row<'_>>(raw.get())
            .map_err(|e| e.to_string())
            .and_then(|row| entry(&row))
        {
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

fn entry(row: &Row<'_>) -> Result<Option<Entry>, String> {
    let price = |raw: Option<&RawValue>| raw.map(|r| per_million(r.get())).transpose();
    let Some(input) = price(row.input_cost_per_token)? else { return Ok(None) };
    let output = price(row.output_cost_per_token)?.unwrap_or(0);
    let cached_input = price(row.cache_read_input_token_cost)?.unwrap_or(input);
    let count = |raw: Option<&RawValue>| raw.and_then(|r| r.get().trim_matches('"').parse::<u64>().ok());
    Ok(Some(Entry {
        price: Price { input, output, cached_input },
        context_window: count(row.max_input_tokens).or_else(|| count(row.max_tokens)),
        max_output_tokens: count(row.max_output_tokens),
    }))
}

/// Dollars per token as decimal text (`1.5e-07`) → nanodollars per million tokens: a shift by fifteen places.
///
/// # Errors
/// When the text is no number of at least 0, does not fit, or is finer than a nanodollar per million.
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
    let ten = 10_u128.checked_pow(shift.unsigned_abs()).ok_or_else(bad)?;
    let exact =
        if shift >= 0 { value.checked_mul(ten) } else { value.is_multiple_of(ten).then(|| value / ten) };
    exact.and_then(|n| i64::try_from(n).ok()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_published_table_is_read_exactly() {
        let table = read(
            r#"{"sample_spec": {"input_cost_per_token": 0.0, "max_tokens": "a note"},
                "mini": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07,
                         "cache_read_input_token_cost": 7.5e-08, "max_input_tokens": 128000, "max_output_tokens": 16384},
                "odd": {"input_cost_per_token": "dear"}, "image": {"mode": "image_generation"}}"#,
        )
        .unwrap();
        let price = Price { input: 150_000_000, output: 600_000_000, cached_input: 75_000_000 };
        let mini = Entry { price, context_window: Some(128_000), max_output_tokens: Some(16_384) };
        assert_eq!(table.models, [("mini".to_owned(), mini)].into_iter().collect());
        assert_eq!(table.refused.keys().collect::<Vec<_>>(), ["odd"]);
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
