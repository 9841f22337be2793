//! Ends a stream of text before a stop sequence, whatever the split into deltas.
//!
//! Text that may turn out to be the beginning of a stop sequence is held back until that is decided. The sequence that is
//! complete first wins; of those that are complete at the same byte, the longest. The sequence itself is never emitted.

/// Looks for stop sequences in a stream of text.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What may be emitted after a push.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cleared {
    /// Text that belongs to no stop sequence, possibly empty.
    pub(crate) text: String,
    /// A stop sequence is complete: nothing may follow.
    pub(crate) stopped: bool,
}

impl StopMatcher {
    /// Empty sequences are ignored.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// Takes the next text.
    pub(crate) fn push(&mut self, text: &str) -> Cleared {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()).map(|start| (start + stop.len(), start)))
            .min();
        if let Some((_, start)) = first {
            self.held.truncate(start);
            return Cleared { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep_from = self.undecided();
        let undecided = self.held.split_off(keep_from);
        Cleared { text: std::mem::replace(&mut self.held, undecided), stopped: false }
    }

    /// Ends the stream: what was held back belongs to no stop sequence.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the longest end of the held text starts that is the beginning of a stop sequence.
    fn undecided(&self) -> usize {
        self.held
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| {
                let end = self.held.get(at..).unwrap_or_default();
                self.stops.iter().any(|stop| stop.starts_with(end))
            })
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<'a>(stops: &[&str], parts: impl IntoIterator<Item = &'a str>) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(ToString::to_string).collect());
        let mut text = String::new();
        for part in parts {
            let cleared = matcher.push(part);
            text.push_str(&cleared.text);
            if cleared.stopped {
                return (text, true);
            }
        }
        text.push_str(&matcher.finish());
        (text, false)
    }

    #[test]
    fn a_stop_sequence_over_several_deltas_is_never_emitted() {
        assert_eq!(run(&["\n\nHuman:"], ["Hi.\n", "\nHu", "man: more"]), ("Hi.".to_owned(), true));
    }

    #[test]
    fn a_beginning_that_leads_nowhere_is_emitted_late_but_whole() {
        assert_eq!(run(&["END"], ["EN", "EMY", " E"]), ("ENEMY E".to_owned(), false));
    }

    #[test]
    fn without_stop_sequences_nothing_is_held_back() {
        let mut matcher = StopMatcher::new(Vec::new());
        assert_eq!(matcher.push("abc"), Cleared { text: "abc".to_owned(), stopped: false });
    }

    proptest! {
        #[test]
        fn the_split_into_deltas_changes_nothing(
            text in "[abé]{0,24}",
            stops in prop::collection::vec("[abé]{1,4}", 0..3),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let whole = run(&stops, [text.as_str()]);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            prop_assert_eq!(run(&stops, letters.iter().map(String::as_str)), whole.clone());
            let (emitted, stopped) = whole;
            prop_assert!(text.starts_with(&emitted));
            prop_assert!(stops.iter().all(|stop| !emitted.contains(stop)));
            prop_assert_eq!(stopped, stops.iter().any(|stop| text.contains(stop)));
        }
    }
}
