//! How long prompts and answers are: log-normal by median and 95th percentile, from a built-in profile or a file.
//!
//! The built-in figures are the medians and 95th percentiles of public traces, computed from the traces themselves:
//!
//! | profile | trace |
//! |---|---|
//! | `chat` | Azure LLM inference trace 2023, conversation (19,366 requests; Patel et al., Splitwise, ISCA 2024) |
//! | `code` | the same, code (8,819 requests) |
//! | `rag` | RAGPulse, a university's question answering (7,106 requests; Wang et al., arXiv 2511.12979) |
//! | `summarize` | summaries of arXiv articles, as Vidur ships their lengths for a window of 4,096 (28,257 requests; Agrawal et al., MLSys 2024) |
//!
//! A log-normal is an approximation: real lengths have steps where windows and limits end.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::random::Random;
use crate::Error;
use crate::config::spans;

/// The 95th percentile of a standard normal.
const Z95: f64 = 1.644_853_626_951_472_2;
/// The longest prompt or answer that a file may ask for, in tokens.
const LONGEST: u32 = 2_000_000;

/// A log-normal distribution of lengths in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lengths {
    /// Half of all are at most so long.
    pub(super) median: u32,
    /// All but one of twenty are at most so long. Equal to the median: all are.
    pub(super) p95: u32,
    /// None is longer: what is drawn above is cut to it.
    pub(super) max: u32,
}

impl Lengths {
    /// The next length: at least 1, at most `max`.
    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        let median = f64::from(self.median);
        let sigma = (f64::from(self.p95) / median).ln() / Z95;
        let drawn = median * (sigma * random.normal()).exp();
        // A float becomes an integer by saturation.
        (drawn.round() as u32).clamp(1, self.max)
    }

    fn check(&self, of: &str) -> Result<(), String> {
        if self.median == 0 || self.p95 < self.median || self.max < self.p95 {
            return Err(format!("`{of}` needs 1 ≤ median ≤ p95 ≤ max"));
        }
        if self.max > LONGEST {
            return Err(format!("`{of}.max` is above {LONGEST}"));
        }
        Ok(())
    }
}

/// What requests look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// For people.
    #[serde(default)]
    pub(super) name: String,
    /// Where its figures are from.
    #[serde(default)]
    pub(super) source: String,
    /// Tokens of a prompt.
    pub(super) input: Lengths,
    /// Tokens of an answer: the `max_tokens` of a request.
    pub(super) output: Lengths,
}

const NAMES: &str = "chat, code, rag, summarize";

impl Profile {
    /// A built-in profile by its name, or one from a YAML file.
    pub(super) fn named(text: &str) -> Result<Profile, Error> {
        if let Some(profile) = built_in(text) {
            return Ok(profile);
        }
        let path = Path::new(text);
        if path.extension().is_none() && !path.exists() {
            let help = format!("name one of {NAMES}, or a YAML file");
            return Err(Error::new(format!("there is no profile `{}`", super::clean(text)), help));
        }
        let source = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, &e))?;
        let mut profile = Profile::parse(&source).map_err(|why| {
            let help = "a profile is: input: {median: 1000, p95: 4000, max: 8000}, and the same for output";
            Error::new(format!("{} is no profile: {why}", path.display()), help)
        })?;
        if profile.name.is_empty() {
            profile.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        Ok(profile)
    }

    fn parse(source: &str) -> Result<Profile, String> {
        let parsed = spans::parse(source);
        if let Some(problem) = parsed.problems.first() {
            return Err(problem.message.clone());
        }
        let json = parsed.root.map(|n| n.to_json()).unwrap_or_default();
        let profile: Profile = serde_json::from_value(json).map_err(|e| e.to_string())?;
        profile.input.check("input")?;
        profile.output.check("output")?;
        Ok(profile)
    }
}

fn built_in(name: &str) -> Option<Profile> {
    let lengths = |median, p95, max| Lengths { median, p95, max };
    let (input, output, source) = match name {
        "chat" => (
            lengths(1020, 4083, 14_000),
            lengths(129, 451, 2_000),
            "Azure LLM inference trace 2023, conversation",
        ),
        "code" => {
            (lengths(1469, 7315, 14_000), lengths(13, 90, 2_000), "Azure LLM inference trace 2023, code")
        }
        "rag" => (lengths(3140, 4425, 8_000), lengths(234, 670, 2_200), "RAGPulse (arXiv 2511.12979)"),
        "summarize" => (
            lengths(2730, 3813, 4_000),
            lengths(167, 737, 2_000),
            "arXiv summaries, lengths as in Vidur (MLSys 2024)",
        ),
        _ => return None,
    };
    Some(Profile { name: name.into(), source: source.into(), input, output })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantile(sorted: &[u32], q: f64) -> f64 {
        f64::from(sorted[(sorted.len() as f64 * q) as usize])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn drawn_lengths_have_the_median_and_p95_asked_for(seed in any::<u64>(), median in 20u32..4_000, spread in 1.0f64..8.0) {
            let p95 = (f64::from(median) * spread) as u32;
            let lengths = Lengths { median, p95, max: LONGEST };
            let mut random = Random::new(seed);
            let mut drawn: Vec<u32> = (0..20_000).map(|_| lengths.draw(&mut random)).collect();
            drawn.sort_unstable();
            prop_assert!((quantile(&drawn, 0.5) / f64::from(median) - 1.0).abs() < 0.08);
            prop_assert!((quantile(&drawn, 0.95) / f64::from(p95) - 1.0).abs() < 0.12);
        }

        #[test]
        fn no_length_is_below_one_or_above_the_most(seed in any::<u64>(), median in 1u32..50, over in 0u32..50) {
            let lengths = Lengths { median, p95: median + over, max: median + over };
            let mut random = Random::new(seed);
            for _ in 0..200 {
                let n = lengths.draw(&mut random);
                prop_assert!((1..=lengths.max).contains(&n));
            }
        }

        #[test]
        fn any_text_is_a_profile_or_refused(text in "\\PC{0,200}") {
            let _ = Profile::parse(&text);
        }
    }

    #[test]
    fn a_file_says_its_lengths_and_wrong_ones_are_refused() {
        let good =
            "input: {median: 10, p95: 40, max: 80}\noutput: {median: 5, p95: 5, max: 5}\nsource: our logs\n";
        let profile = Profile::parse(good).unwrap();
        assert_eq!((profile.input.p95, profile.source.as_str()), (40, "our logs"));
        for (bad, why) in [
            ("input: {median: 10, p95: 4, max: 80}\noutput: {median: 5, p95: 5, max: 5}", "median ≤ p95"),
            ("input: {median: 10, p95: 40, max: 80}", "output"),
            ("input: {median: 10, p95: 40, max: 80, mode: 3}\noutput: {median: 5, p95: 5, max: 5}", "mode"),
        ] {
            let said = Profile::parse(bad).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn every_built_in_profile_is_sound() {
        for name in NAMES.split(", ") {
            let profile = built_in(name).unwrap();
            profile.input.check("input").unwrap();
            profile.output.check("output").unwrap();
            assert!(!profile.source.is_empty());
        }
    }
}
