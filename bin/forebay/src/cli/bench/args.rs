//! The arguments of `forebay bench`, and what they mean.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use contract::Secret;
use serde::Serialize;

use super::plan::{Arrivals, Streaming};
use super::threshold::Threshold;
use crate::config::units::Time;

/// `bench`'s arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The table goes to standard output; with --json the whole report does. What each figure means: docs/guides/bench.md.\n\
    Exit codes: 0 measured, 1 not measured or a --fail-on came true, 130 stopped by Ctrl-C (the report so far is printed)."
)]
pub struct Args {
    /// The server, instead of --server.
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// The model or pipeline to ask.
    #[arg(long, value_name = "NAME")]
    pub(super) model: String,
    /// The protocol to speak.
    #[arg(long, value_enum, default_value = "openai")]
    pub(super) surface: Speaks,
    /// Requests a second at 1x.
    #[arg(long, value_name = "PER_SECOND", default_value = "1", value_parser = rate)]
    pub(super) rate: f64,
    /// Multiples of the rate, one after the other.
    #[arg(long, value_name = "1x,10x,…", default_value = "1x,10x,100x")]
    pub(super) steps: Steps,
    /// How long each step is measured.
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(super) measured: Duration,
    /// How long each step runs before it is measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    pub(super) warm_up: Duration,
    /// How long answers under way at the end of a step are waited for.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(super) ramp_down: Duration,
    /// How long one answer may take.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time)]
    pub(super) timeout: Duration,
    /// How requests arrive.
    #[arg(long, value_enum, default_value = "poisson")]
    pub(super) arrivals: Arrivals,
    /// How long prompts and answers are: chat, code, rag, summarize, or a YAML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "chat")]
    pub(super) profile: String,
    /// Send the files of this folder instead of made-up text, each whole.
    #[arg(long, value_name = "FOLDER")]
    pub(super) documents: Option<PathBuf>,
    /// Ask under several keys: NAME=KEY:WEIGHT, separated by commas; $VARIABLE is taken from the environment.
    // A secret, and read later: a message of clap's would repeat it.
    #[arg(long, value_name = "NAME=KEY:WEIGHT,…", value_parser = super::super::secret)]
    pub(super) tenants: Option<Secret>,
    /// Whether answers are streamed; mix: every other one, by chance.
    #[arg(long, value_enum, num_args = 0..=1, default_value = "yes", default_missing_value = "yes")]
    pub(super) stream: Stream,
    /// Ask for whole answers.
    #[arg(long, conflicts_with = "stream")]
    pub(super) no_stream: bool,
    /// What a good answer is: first=300ms, total=10s, tpot=50ms, separated by commas.
    #[arg(long, value_name = "first=…,total=…")]
    pub(super) slo: Option<Slo>,
    /// Dollars for a million tokens of input and of output, where the server does not say what an answer cost.
    #[arg(long, value_name = "IN,OUT", value_parser = price)]
    pub(super) price: Option<Price>,
    /// Halve the way between the last good and the first bad rate until they are within 10 %.
    #[arg(long)]
    pub(super) find_limit: bool,
    /// Fail when this is so at 1x (or at another step: 10x:…): 'p99_first>300ms', 'error_rate>1%', 'goodput<20'.
    #[arg(long, value_name = "[STEP:]METRIC>VALUE")]
    pub(super) fail_on: Vec<Threshold>,
    /// The most requests under way at once; what would be more is not sent, and reported as the client's limit.
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) in_flight: u32,
    /// Equal seeds send equal requests at equal times.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) seed: u64,
    /// Write the report as JSON into this file too.
    #[arg(long, value_name = "FILE")]
    pub(super) save: Option<PathBuf>,
    /// Write the report as one HTML page with plots.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

impl Args {
    pub(super) fn streaming(&self) -> Streaming {
        match self.stream {
            _ if self.no_stream => Streaming::Never,
            Stream::Yes => Streaming::Always,
            Stream::No => Streaming::Never,
            Stream::Mix => Streaming::Mixed,
        }
    }
}

/// The protocol of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Speaks {
    /// OpenAI chat completions.
    Openai,
    /// Anthropic messages.
    Anthropic,
    /// Forebay's own: `/v1/pipelines/NAME`.
    Native,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stream {
    /// All of them.
    Yes,
    /// None.
    No,
    /// Half of them.
    Mix,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number of requests a second")?;
    if rate.is_finite() && (0.001..=1e6).contains(&rate) {
        Ok(rate)
    } else {
        Err("expected 0.001 to 1000000".into())
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = text.parse::<Time>()?.0;
    if time > Duration::from_secs(86_400) { Err("expected a day at most".into()) } else { Ok(time) }
}

/// Multiples of the rate with their labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steps(pub(super) Vec<(String, f64)>);

impl FromStr for Steps {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let one = |word: &str| {
            let word = word.trim();
            let number = word.strip_suffix(['x', '×']).unwrap_or(word);
            let factor: f64 =
                number.parse().map_err(|_| "expected multiples such as 1x,10x,100x".to_owned())?;
            if !(factor.is_finite() && (0.001..=1e6).contains(&factor)) {
                return Err("expected multiples from 0.001x to 1000000x".to_owned());
            }
            Ok((format!("{number}x"), factor))
        };
        let all = text.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        let twice = all.iter().enumerate().any(|(i, a)| all.iter().take(i).any(|b| a.0 == b.0));
        if twice { Err("a step is named twice".into()) } else { Ok(Steps(all)) }
    }
}

/// A caller.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) key: Option<Secret>,
    pub(super) weight: u32,
}

/// `gold=KEY1:1,free=KEY2:3`. No key is repeated in a message.
pub(super) fn tenants(text: &str) -> Result<Vec<Tenant>, String> {
    const EXPECTED: &str = "expected NAME=KEY:WEIGHT, separated by commas, with a weight from 1 to 1000000";
    let mut all: Vec<Tenant> = Vec::new();
    for one in text.split(',') {
        let (name, rest) = one.split_once('=').ok_or(EXPECTED)?;
        let (key, weight) = rest.rsplit_once(':').unwrap_or((rest, "1"));
        let weight: u32 = weight.trim().parse().map_err(|_| EXPECTED)?;
        let (name, key) = (super::clean(name.trim()), key.trim());
        if name.is_empty() || key.is_empty() || !(1..=1_000_000).contains(&weight) {
            return Err(EXPECTED.into());
        }
        if all.iter().any(|t| t.name == name) {
            return Err(format!("the tenant `{name}` is named twice"));
        }
        let key = match key.strip_prefix('$') {
            Some(variable) => {
                std::env::var(variable).map_err(|_| format!("the variable `{variable}` is not set"))?
            }
            None => key.to_owned(),
        };
        all.push(Tenant { name, key: Some(Secret::new(key)), weight });
    }
    Ok(all)
}

/// What a good answer is; what is not said does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Slo {
    /// To the first output, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_us: Option<u64>,
    /// To the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_us: Option<u64>,
    /// For each token behind the first output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tpot_us: Option<u64>,
}

impl FromStr for Slo {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected times such as first=300ms,total=10s,tpot=50ms";
        let mut slo = Slo::default();
        for one in text.split(',') {
            let (name, value) = one.split_once('=').ok_or(EXPECTED)?;
            let place = match name.trim() {
                "first" => &mut slo.first_us,
                "total" => &mut slo.total_us,
                "tpot" => &mut slo.tpot_us,
                _ => return Err(EXPECTED.into()),
            };
            let time = u64::try_from(time(value.trim())?.as_micros()).unwrap_or(u64::MAX);
            if place.replace(time).is_some() {
                return Err(format!("`{}` is said twice", name.trim()));
            }
        }
        Ok(slo)
    }
}

/// Nanodollars for a token of input and of output, as exact as a float is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Price {
    pub(super) input: f64,
    pub(super) output: f64,
}

fn price(text: &str) -> Result<Price, String> {
    const EXPECTED: &str = "expected dollars for a million tokens, such as 0.40,1.60";
    let (input, output) = text.split_once(',').ok_or(EXPECTED)?;
    let one = |text: &str| -> Result<f64, String> {
        let usd: f64 = text.trim().trim_start_matches('$').parse().map_err(|_| EXPECTED)?;
        // A dollar for a million tokens is a thousand nanodollars for one.
        if (0.0..=1e6).contains(&usd) { Ok(usd * 1_000.0) } else { Err(EXPECTED.into()) }
    };
    Ok(Price { input: one(input)?, output: one(output)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_are_multiples_with_or_without_their_sign() {
        let steps: Steps = "1x, 2.5,10×".parse().unwrap();
        assert_eq!(steps.0, [("1x".into(), 1.0), ("2.5x".into(), 2.5), ("10x".into(), 10.0)]);
        for bad in ["", "1x,1x", "fast", "0x", "-1x", "infx", "1x,"] {
            assert!(bad.parse::<Steps>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tenants_have_keys_and_weights_and_no_message_repeats_a_key() {
        let all = tenants("gold=sk-a:b:1,free=sk-c:3,plain=sk-d").unwrap();
        let shown: Vec<_> = all.iter().map(|t| (t.name.as_str(), t.weight)).collect();
        assert_eq!(shown, [("gold", 1), ("free", 3), ("plain", 1)]);
        assert_eq!(all[0].key.as_ref().unwrap().expose(), "sk-a:b");
        for bad in ["sk-secret", "a=sk-secret:0", "a=sk-secret:x", "a=sk-secret,a=sk-secret", "=sk-secret:1"]
        {
            assert!(!tenants(bad).unwrap_err().contains("secret"), "{bad}");
        }
    }

    #[test]
    fn an_slo_says_what_matters_and_a_price_is_for_a_million() {
        let slo: Slo = "first=300ms,total=10s".parse().unwrap();
        assert_eq!(slo, Slo { first_us: Some(300_000), total_us: Some(10_000_000), tpot_us: None });
        assert!("first=300".parse::<Slo>().is_err() && "last=3s".parse::<Slo>().is_err());
        assert!("first=1s,first=2s".parse::<Slo>().is_err());
        assert_eq!(price("0.4,$1.6").unwrap(), Price { input: 400.0, output: 1600.0 });
        assert!(price("1").is_err() && price("-1,1").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (text.parse::<Steps>(), text.parse::<Slo>(), price(&text), tenants(&text), rate(&text));
        }
    }
}
