//! A whole answer that is kept, and about what it takes.

use contract::{Money, Tick, Usage};

use super::shelf::Shelved;
use crate::Delta;

/// What an entry takes besides what its deltas say.
const ENTRY: usize = 256;

/// A whole answer.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) deltas: Vec<Delta>,
    pub(super) version: Option<String>,
    /// What it used and cost when it was made.
    pub(super) usage: Usage,
    pub(super) cost: Money,
    pub(super) made: Tick,
    bytes: u64,
}

impl Kept {
    /// Keeps the deltas of an answer, text that followed text put together.
    pub(super) fn new(
        deltas: impl IntoIterator<Item = Delta>,
        version: Option<String>,
        (usage, cost): (Usage, Money),
        made: Tick,
    ) -> Self {
        let mut whole: Vec<Delta> = Vec::new();
        for delta in deltas {
            match (whole.last_mut(), delta) {
                (Some(Delta::Text(all)), Delta::Text(more))
                | (Some(Delta::Reasoning(all)), Delta::Reasoning(more)) => all.push_str(&more),
                // Who is given it later has nothing to forget.
                (_, Delta::Reset) => whole.clear(),
                (_, delta) => whole.push(delta),
            }
        }
        whole.shrink_to_fit();
        let bytes = whole.iter().map(size).sum::<usize>() + ENTRY;
        Kept { deltas: whole, version, usage, cost, made, bytes: bytes as u64 }
    }
}

impl Shelved for Kept {
    fn made(&self) -> Tick {
        self.made
    }
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// About what a delta takes in memory.
pub(super) fn size(delta: &Delta) -> usize {
    let inside = match delta {
        Delta::Text(t) | Delta::Reasoning(t) | Delta::Signature(t) | Delta::Version(t) => t.len(),
        // A value takes more in memory than on paper.
        Delta::Logprobs(json) => json.to_string().len() * 4,
        Delta::ToolCall { id, name, arguments, .. } => {
            arguments.len() + id.as_ref().map_or(0, String::len) + name.as_ref().map_or(0, String::len)
        }
        Delta::Finish(_) | Delta::Usage(_) | Delta::Reset => 0,
    };
    inside + size_of::<Delta>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_put_together_and_nothing_else_is() {
        let text = |t: &str| Delta::Text(t.into());
        let logprobs = || Delta::Logprobs(Box::new(serde_json::json!({"content": []})));
        let deltas = vec![text("a"), text("b"), logprobs(), text("c"), Delta::Reasoning("d".into())];
        let kept = |d: Vec<Delta>| Kept::new(d, None, Default::default(), Tick(0)).deltas;
        assert_eq!(kept(deltas), [text("ab"), logprobs(), text("c"), Delta::Reasoning("d".into())]);
        assert_eq!(
            kept(vec![text("a"), Delta::Reset, text("b")]),
            [text("b")],
            "what was taken back is not kept"
        );
    }
}
