//! The table a project keeps: every price with the time from which it holds. Nothing is forgotten by an import, so that
//! what was spent under an old price can be computed again.

use std::collections::BTreeMap;

use contract::{LongPrompt, Price, UnixMillis};
use serde::{Deserialize, Serialize};

use super::{Entry, Table, read};

/// What the file says it is.
const FORMAT: &str = "forebay-prices/1";

/// An entry and from when on it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated {
    /// From when on, in milliseconds since the epoch.
    pub effective_from: UnixMillis,
    /// What holds.
    #[serde(flatten)]
    pub entry: Entry,
}

/// All entries of all imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    format: String,
    models: BTreeMap<String, Vec<Dated>>,
}

/// What an import changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Changes {
    /// Models that were not in the table.
    pub new: usize,
    /// Models whose price or limits are others from now on.
    pub changed: usize,
    /// Models that are as they were.
    pub unchanged: usize,
    /// Models that only the old table has; they keep their last price.
    pub kept: usize,
}

impl Default for History {
    fn default() -> Self {
        History { format: FORMAT.to_owned(), models: BTreeMap::new() }
    }
}

impl History {
    /// Reads a project's table, or one in LiteLLM's format, whose prices then hold for all times.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse(text: &str) -> Result<History, String> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            format: Option<String>,
        }
        let head: Option<Head> = serde_json::from_str(text).ok();
        match head.and_then(|h| h.format).as_deref() {
            Some(FORMAT) => {
                let mut own: History = serde_json::from_str(text).map_err(|e| e.to_string())?;
                own.models.values_mut().for_each(|all| all.sort_by_key(|d| d.effective_from));
                Ok(own)
            }
            Some(other) => Err(format!("its format is `{other}`, and this program knows `{FORMAT}`")),
            None => {
                let table = read(text).map_err(|e| e.to_string())?;
                let mut own = History::default();
                own.import(table, UnixMillis(i64::MIN));
                Ok(own)
            }
        }
    }

    /// The text of the table.
    ///
    /// # Errors
    /// Never for entries that were read.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Takes a table whose entries hold from `from` on. What is as before gets no second line; another import of the
    /// same time takes the place of the first.
    pub fn import(&mut self, table: Table, from: UnixMillis) -> Changes {
        let mut changes = Changes { kept: self.models.len(), ..Changes::default() };
        for (name, entry) in table.models {
            let all = self.models.entry(name).or_default();
            if all.is_empty() {
                changes.new += 1;
            } else {
                changes.kept -= 1;
            }
            let old = !all.is_empty();
            all.retain(|d| d.effective_from != from);
            let at = all.partition_point(|d| d.effective_from < from);
            let before = at.checked_sub(1).and_then(|i| all.get(i));
            if before.is_some_and(|d| d.entry == entry) {
                changes.unchanged += 1;
                continue;
            }
            changes.changed += usize::from(old);
            all.insert(at, Dated { effective_from: from, entry });
        }
        changes
    }

    /// What holds for a model of the table at a time.
    pub fn at(&self, name: &str, when: UnixMillis) -> Option<&Dated> {
        self.models.get(name)?.iter().rev().find(|d| d.effective_from <= when)
    }

    /// Everything that is known of a model, oldest first.
    pub fn all(&self, name: &str) -> &[Dated] {
        self.models.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of the table.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }
}

impl Entry {
    /// The price as bills are computed: input, output, cache reads, and those of long prompts where the table has them.
    pub fn price(&self) -> Price {
        let of = |name: &str| self.prices.get(name).copied();
        let input = of("input_cost_per_token").unwrap_or(0);
        let output = of("output_cost_per_token").unwrap_or(0);
        let cached_input = of("cache_read_input_token_cost").unwrap_or(input);
        let thresholds = self.prices.keys().filter_map(|name| {
            let thousands = name.strip_prefix("input_cost_per_token_above_")?.strip_suffix("k_tokens")?;
            thousands.parse::<u64>().ok()?.checked_mul(1_000)
        });
        // Of several the lowest: two bounds in one entry are rare, and a bill is rather too high than too low.
        let long = thresholds.min().map(|tokens| {
            let above = |base: &str| of(&format!("{base}_above_{}k_tokens", tokens / 1_000));
            let long_input = above("input_cost_per_token").unwrap_or(input);
            LongPrompt {
                above: tokens,
                input: long_input,
                output: above("output_cost_per_token").unwrap_or(output),
                cached_input: above("cache_read_input_token_cost").unwrap_or(cached_input),
            }
        });
        Price { input, output, cached_input, long }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Money, Usage};
    use proptest::prelude::*;

    use super::*;

    fn table(nanos: i64) -> Table {
        let text = format!(r#"{{"m": {{"input_cost_per_token": {nanos}e-15, "litellm_provider": "p"}}}}"#);
        read(&text).unwrap()
    }

    fn input_at(h: &History, when: i64) -> Option<i64> {
        h.at("m", UnixMillis(when)).map(|d| d.entry.price().input)
    }

    #[test]
    fn an_import_adds_what_changed_and_forgets_nothing() {
        let mut h = History::default();
        assert_eq!(h.import(table(5), UnixMillis(10)), Changes { new: 1, ..Changes::default() });
        assert_eq!(h.import(table(5), UnixMillis(20)), Changes { unchanged: 1, ..Changes::default() });
        assert_eq!(h.import(table(7), UnixMillis(30)), Changes { changed: 1, ..Changes::default() });
        assert_eq!(h.import(Table::default(), UnixMillis(40)), Changes { kept: 1, ..Changes::default() });
        assert_eq!([9, 10, 29, 30, 99].map(|t| input_at(&h, t)), [None, Some(5), Some(5), Some(7), Some(7)]);
        assert_eq!(h.all("m").len(), 2);
        assert_eq!(History::parse(&h.to_text().unwrap()).unwrap(), h);
    }

    #[test]
    fn a_table_in_litellms_format_holds_for_all_times_and_another_is_refused() {
        let h = History::parse(r#"{"m": {"input_cost_per_token": 1e-6}}"#).unwrap();
        assert_eq!(input_at(&h, i64::MIN), Some(1_000_000_000));
        assert!(
            History::parse(r#"{"format": "forebay-prices/9", "models": {}}"#).unwrap_err().contains("/9")
        );
        assert!(History::parse("[]").is_err());
    }

    #[test]
    fn a_long_prompt_has_prices_of_its_own() {
        let t = read(
            r#"{"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "cache_read_input_token_cost": 1e-7,
                "input_cost_per_token_above_200k_tokens": 2e-6, "output_cost_per_token_above_200k_tokens": 3e-6,
                "cache_read_input_token_cost_above_200k_tokens": 2e-7}}"#,
        )
        .unwrap();
        let price = t.models["m"].price();
        let usage = |input_tokens| Usage { input_tokens, output_tokens: 10, ..Usage::default() };
        assert_eq!(price.cost(&usage(200_000)), Money::from_nanos(200_000 * 1_000 + 10 * 2_000));
        assert_eq!(price.cost(&usage(200_001)), Money::from_nanos(200_001 * 2_000 + 10 * 3_000));
    }

    proptest! {
        #[test]
        fn imports_in_any_order_of_time_keep_every_line_in_order(times in prop::collection::vec(0_i64..50, 1..20)) {
            let mut h = History::default();
            for (n, t) in times.iter().enumerate() {
                h.import(table(i64::try_from(n).unwrap() + 1), UnixMillis(*t));
            }
            prop_assert!(h.all("m").windows(2).all(|w| w[0].effective_from < w[1].effective_from));
            // The last import of a time is what holds at it.
            for t in &times {
                let last = times.iter().rposition(|x| x == t).unwrap();
                prop_assert_eq!(input_at(&h, *t), Some(i64::try_from(last).unwrap() + 1));
            }
        }
    }
}
