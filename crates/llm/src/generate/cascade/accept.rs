//! Whether an answer is good enough. Pure.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value as Json;

use super::config::AcceptConfig;
use crate::{Answer, FinishReason};

/// Why an answer is not accepted: the words of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Empty,
    Cut,
    Schema,
    TooShort,
    TooLong,
    NoMatch,
    Match,
    Refusal,
    NotConfident,
    NoLogprobs,
    /// Its model failed.
    Failed,
}

impl Refused {
    /// As a figure of the finding `cascade`.
    pub(super) const fn figure(self) -> &'static str {
        match self {
            Self::Empty => "refused_empty",
            Self::Cut => "refused_cut",
            Self::Schema => "refused_schema",
            Self::TooShort => "refused_too_short",
            Self::TooLong => "refused_too_long",
            Self::NoMatch => "refused_no_match",
            Self::Match => "refused_match",
            Self::Refusal => "refused_refusal",
            Self::NotConfident => "refused_not_confident",
            Self::NoLogprobs => "refused_no_logprobs",
            Self::Failed => "failed",
        }
    }
}

/// The checks of an answer.
pub(super) struct Accept {
    config: AcceptConfig,
    must_match: Option<Regex>,
    must_not_match: Option<Regex>,
}

impl Accept {
    /// Or the field that is wrong and why.
    pub(super) fn new(config: AcceptConfig) -> Result<Self, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let mut regex = |name, source: &Option<String>| {
            let compiled = source.as_deref().map(Regex::new).transpose();
            compiled.unwrap_or_else(|e| {
                problems.push((name, format!("not a regular expression: {e}")));
                None
            })
        };
        let must_match = regex("must_match", &config.must_match);
        let must_not_match = regex("must_not_match", &config.must_not_match);
        if let (Some(min), Some(max)) = (config.min_chars, config.max_chars)
            && min > max
        {
            problems
                .push(("max_chars", format!("no answer has at least {min} and at most {max} characters")));
        }
        if problems.is_empty() { Ok(Accept { config, must_match, must_not_match }) } else { Err(problems) }
    }

    /// Whether the models must be asked for log probabilities.
    pub(super) fn wants_logprobs(&self) -> bool {
        self.config.min_confidence.is_some()
    }

    /// Why the answer is not accepted; `None` when it is. `fits` says whether it fits the stage's schema.
    pub(super) fn refuses(&self, answer: &Answer, fits: bool) -> Option<Refused> {
        let text = answer.text.trim();
        let chars = text.chars().count() as u64;
        let c = &self.config;
        let checks = [
            (text.is_empty(), Refused::Empty),
            (answer.finish == Some(FinishReason::Length), Refused::Cut),
            (!fits, Refused::Schema),
            (c.min_chars.is_some_and(|min| chars < min), Refused::TooShort),
            (c.max_chars.is_some_and(|max| chars > max), Refused::TooLong),
            (self.must_match.as_ref().is_some_and(|r| !r.is_match(text)), Refused::NoMatch),
            (self.must_not_match.as_ref().is_some_and(|r| r.is_match(text)), Refused::Match),
            (!c.refusals && is_refusal(text), Refused::Refusal),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(refused, _)| *refused) {
            return Some(why);
        }
        let least = c.min_confidence?;
        match confidence(answer.logprobs.as_deref()) {
            None => Some(Refused::NoLogprobs),
            Some(p) => (p < least).then_some(Refused::NotConfident),
        }
    }
}

/// The mean of the tokens' probabilities: e to each log probability, added up and divided by their number.
fn confidence(logprobs: Option<&Json>) -> Option<f64> {
    let tokens = logprobs?.get("content")?.as_array()?;
    let probabilities = tokens.iter().filter_map(|t| t.get("logprob")?.as_f64()).map(f64::exp);
    let (sum, n) = probabilities.fold((0.0, 0_u32), |(sum, n), p| (sum + p.min(1.0), n.saturating_add(1)));
    (n > 0).then(|| sum / f64::from(n))
}

/// Whether a text begins as models refuse, in English: an apology or "as an AI" alone is none.
fn is_refusal(text: &str) -> bool {
    static BEGINS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?ix)^ \W*
            (?: i (?: ['’]m | \s+am ) \s+ (?: (?:so|very|really) \s+ )? sorry \s* [,;.]? \s* (?: but \s+ )? )?
            (?: unfortunately ,? \s+ )?
            (?: as \s+ an? \s+ (?: ai | (?: ai \s+ )? (?: large \s+ )? language \s+ model ) , \s+ )?
            i (?:
                (?: \s+ (?: can (?: \s*not | ['’]t ) | won['’]t | will \s+ not )
                  | (?: ['’]m | \s+am ) \s+ (?: not \s+ able | unable ) \s+ to )
                \s+ (?: help | assist | answer | provide | comply | fulfil | create | generate | write | discuss
                    | continue | share | offer | do \s+ that | engage | support )
              | \s+ do (?: \s+ not | n['’]t ) \s+ have \s+ (?: the \s+ ability | access )
              | \s+ must \s+ decline
            )",
        )
        .ok()
    });
    BEGINS.as_ref().is_some_and(|r| r.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn accept(config: Json) -> Accept {
        Accept::new(serde_json::from_value(config).unwrap()).ok().unwrap()
    }

    fn said(text: &str) -> Answer {
        Answer { text: text.into(), finish: Some(FinishReason::Stop), ..Answer::default() }
    }

    fn with_logprobs(all: &[f64]) -> Answer {
        let content: Vec<Json> = all.iter().map(|p| json!({"token": "x", "logprob": p.ln()})).collect();
        Answer { logprobs: Some(Box::new(json!({"content": content}))), ..said("x") }
    }

    #[test]
    fn each_check_refuses_for_its_own_reason() {
        for (config, text, want) in [
            (json!({}), "Paris", None),
            (json!({}), " \n", Some(Refused::Empty)),
            (json!({"min_chars": 6}), " Paris ", Some(Refused::TooShort)),
            (json!({"max_chars": 4}), "Paris", Some(Refused::TooLong)),
            (json!({"min_chars": 5, "max_chars": 5}), " Paris ", None),
            (json!({"must_match": "^[A-Z]"}), "paris", Some(Refused::NoMatch)),
            (json!({"must_not_match": "(?i)unknown"}), "Unknown.", Some(Refused::Match)),
            (json!({}), "I'm sorry, but I can't help with that.", Some(Refused::Refusal)),
            (json!({"refusals": true}), "I'm sorry, but I can't help with that.", None),
            (json!({"min_confidence": 0.5}), "Paris", Some(Refused::NoLogprobs)),
        ] {
            assert_eq!(accept(config.clone()).refuses(&said(text), true), want, "{config} {text:?}");
        }
        assert_eq!(accept(json!({})).refuses(&said("{}"), false), Some(Refused::Schema));
        let cut = Answer { finish: Some(FinishReason::Length), ..said("Par") };
        assert_eq!(accept(json!({})).refuses(&cut, true), Some(Refused::Cut));
    }

    #[test]
    fn confidence_is_the_mean_probability_of_the_tokens() {
        let refused = |least: f64, all: &[f64]| {
            accept(json!({"min_confidence": least})).refuses(&with_logprobs(all), true)
        };
        assert_eq!(refused(0.74, &[1.0, 0.5]), None);
        assert_eq!(refused(0.76, &[1.0, 0.5]), Some(Refused::NotConfident));
        assert_eq!(refused(0.0, &[]), Some(Refused::NoLogprobs));
    }

    #[test]
    fn refusals_are_known_by_how_they_begin_and_answers_are_not_taken_for_them() {
        for text in [
            "I'm sorry, but I can't assist with that request.",
            "I am sorry. I cannot provide that.",
            "I can't help with this.",
            "Unfortunately, I am unable to answer.",
            "As an AI language model, I cannot share opinions.",
            "I don't have access to real-time data.",
            "I’m unable to comply.",
        ] {
            assert!(is_refusal(text), "{text}");
        }
        for text in [
            "I can help with that: press the button.",
            "Sorry seems to be the hardest word is a song by Elton John.",
            "The minister said: I cannot answer.",
            "As an AI researcher, she wrote three papers.",
            "I am sorry to hear that. Your refund is on its way.",
            "I can't wait to help you.",
            "Paris.",
        ] {
            assert!(!is_refusal(text), "{text}");
        }
    }

    #[test]
    fn every_wrong_check_is_named() {
        let config = json!({"must_match": "(", "must_not_match": "[", "min_chars": 5, "max_chars": 4});
        let wrong = Accept::new(serde_json::from_value(config).unwrap()).err().unwrap();
        let names: Vec<_> = wrong.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["must_match", "must_not_match", "max_chars"]);
    }

    proptest! {
        #[test]
        fn a_stricter_limit_never_accepts_what_a_looser_one_refuses(
            all in prop::collection::vec(0.01f64..1.0, 1..20), a in 0.0f64..1.0, b in 0.0f64..1.0,
        ) {
            let refused = |least: f64| {
                accept(json!({"min_confidence": least})).refuses(&with_logprobs(&all), true).is_some()
            };
            prop_assert!(refused(a.max(b)) || !refused(a.min(b)));
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            prop_assert!(!refused((mean - 1e-9).max(0.0)) && refused(mean + 1e-9));
        }

        #[test]
        fn any_text_is_judged(text in any::<String>()) {
            let _ = accept(json!({"must_match": "a", "max_chars": 10})).refuses(&said(&text), true);
        }
    }
}
