//! What is remembered of an answer that is written, for whoever keeps answers (`capture`): how long it was, in which language, whether it
//! refused, and the texts themselves where the configuration says so.
//!
//! Nothing of it is on the way of a token but an append; what is looked at of an output is bounded, and so is what is kept.

use std::sync::Arc;

use contract::{Message, Role, Value};
use llm::Delta;
use parking_lot::Mutex;

/// Bytes of an input or an output that are kept, at most.
pub(crate) const KEPT: usize = 64 << 10;
/// Bytes of an output that its language and a refusal are told by.
const LOOKED_AT: usize = 2 << 10;

/// How an answer that does not do what was asked begins, in lower case.
const REFUSALS: [&str; 12] = [
    "i can't",
    "i cannot",
    "i can not",
    "i'm sorry",
    "i am sorry",
    "sorry, ",
    "i'm unable",
    "i am unable",
    "i won't",
    "i'm not able to",
    "as an ai",
    "unfortunately, i",
];

/// What is remembered of one answer.
#[derive(Debug)]
pub(crate) struct Heard {
    /// What was asked, and what answered: it is an answer of these.
    names: Vec<String>,
    /// Whether texts are kept.
    texts: bool,
    input: String,
    input_chars: usize,
    output: Mutex<Output>,
}

#[derive(Debug, Default)]
struct Output {
    /// The beginning of it.
    text: String,
    chars: usize,
}

/// What is told of an answer.
pub(crate) struct Signals {
    pub(crate) input_chars: usize,
    pub(crate) output_chars: usize,
    /// Whether it begins as refusals do.
    pub(crate) refused: bool,
    /// The language of its text, by ISO 639-3, where that is clear.
    pub(crate) language: Option<&'static str>,
    /// What was asked and answered, where texts are kept.
    pub(crate) texts: Option<(Arc<str>, Arc<str>)>,
}

impl Heard {
    /// Of a conversation: what its user said last.
    pub(crate) fn of_messages(names: &[&str], texts: bool, messages: &[Message]) -> Heard {
        let last = messages.iter().rev().find(|m| m.role == Role::User);
        Heard::new(names, texts, &last.map(|m| m.content.to_text()).unwrap_or_default())
    }

    /// Of what a pipeline is given.
    pub(crate) fn of_value(names: &[&str], texts: bool, input: &Value) -> Heard {
        match input {
            Value::Messages(messages) => Heard::of_messages(names, texts, messages),
            Value::Text(text) => Heard::new(names, texts, text),
            Value::Document(document) => Heard::new(names, texts, &document.text),
            other => Heard::new(names, texts, &other.to_text()),
        }
    }

    fn new(names: &[&str], texts: bool, input: &str) -> Heard {
        Heard {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            texts,
            input: if texts { cut(input, KEPT).to_owned() } else { String::new() },
            input_chars: input.chars().count(),
            output: Mutex::default(),
        }
    }

    /// Whether it is an answer of that name, and not of a part of it.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// A piece of a model's answer.
    pub(crate) fn delta(&self, delta: &Delta) {
        match delta {
            Delta::Text(text) => self.output.lock().push(text, self.most()),
            Delta::Reset => *self.output.lock() = Output::default(),
            _ => {}
        }
    }

    /// The whole of a pipeline's answer.
    pub(crate) fn whole(&self, text: &str) {
        let mut output = Output::default();
        output.push(text, self.most());
        *self.output.lock() = output;
    }

    fn most(&self) -> usize {
        if self.texts { KEPT } else { LOOKED_AT }
    }

    /// What is to be told.
    pub(crate) fn signals(&self) -> Signals {
        let output = self.output.lock();
        let begins = cut(output.text.trim_start(), LOOKED_AT);
        let lower: String =
            begins.chars().take(200).collect::<String>().to_lowercase().replace('\u{2019}', "'");
        let language = whatlang::detect(begins).filter(whatlang::Info::is_reliable);
        Signals {
            input_chars: self.input_chars,
            output_chars: output.chars,
            refused: REFUSALS.iter().any(|words| lower.starts_with(words)),
            language: language.map(|info| info.lang().code()),
            texts: self.texts.then(|| (self.input.as_str().into(), output.text.as_str().into())),
        }
    }
}

impl Output {
    fn push(&mut self, text: &str, most: usize) {
        self.chars += text.chars().count();
        let room = most.saturating_sub(self.text.len());
        self.text.push_str(cut(text, room));
    }
}

/// No more bytes than that, and no half of a character.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: bool, pieces: &[&str]) -> Signals {
        let heard = Heard::new(&["m"], texts, "what is it?");
        pieces.iter().for_each(|piece| heard.delta(&Delta::Text((*piece).to_owned())));
        heard.signals()
    }

    #[test]
    fn an_answer_is_told_by_its_length_its_language_and_whether_it_refuses() {
        let plain = "The forebay is the pool of water in front of a turbine, from which it is fed.";
        let told = said(false, &[plain]);
        assert_eq!((told.input_chars, told.output_chars), (11, plain.chars().count()));
        assert_eq!((told.language, told.refused), (Some("eng"), false));
        assert!(told.texts.is_none(), "nothing of it is kept");
        let told = said(
            false,
            &[
                "Der Speicher vor der Turbine nimmt ",
                "die Flut auf, damit die Maschine dahinter gleichmäßig läuft.",
            ],
        );
        assert_eq!(told.language, Some("deu"));
        for refusal in
            ["I\u{2019}m sorry, but I can't help with that.", "  As an AI, I do not.", "I cannot say."]
        {
            assert!(said(false, &[refusal]).refused, "{refusal}");
        }
        assert!(!said(false, &["She said: I can't."]).refused);
    }

    #[test]
    fn texts_are_kept_where_that_is_said_and_no_more_than_there_is_room_for() {
        let told = said(true, &["yes", " and no"]);
        let (asked, answered) = told.texts.unwrap();
        assert_eq!((&*asked, &*answered), ("what is it?", "yes and no"));
        let long = "ä".repeat(KEPT);
        let told = said(true, &[&long, &long]);
        assert_eq!(told.output_chars, 2 * KEPT, "all of it is counted");
        assert_eq!(told.texts.unwrap().1.len(), KEPT);
        let heard = Heard::new(&["m"], true, "");
        heard.delta(&Delta::Text("half an answer".to_owned()));
        heard.delta(&Delta::Reset);
        heard.delta(&Delta::Text("another".to_owned()));
        assert_eq!(&*heard.signals().texts.unwrap().1, "another");
        heard.whole("the pipeline's own");
        assert_eq!(&*heard.signals().texts.unwrap().1, "the pipeline's own");
    }
}
