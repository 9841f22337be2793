//! By what a request is known when it is refused and sent again: enough of it to tell it from its tenant's other requests
//! as a rule, and little enough to cost nothing. Two requests with one mark change turns, and nothing else.

use std::hash::{Hash, Hasher};

use contract::{Content, Part, UserId};
use rustc_hash::FxHasher;

use crate::ChatRequest;

/// Bytes of the last turn that count: its end, where a template's prompts differ.
const TAIL: usize = 512;

/// The mark of a request of this end user's that has this many tokens of input.
pub(crate) fn of(request: &ChatRequest, user: Option<&UserId>, input: u64) -> u64 {
    let mut h = FxHasher::default();
    (user, input, request.messages.len(), request.seed).hash(&mut h);
    match request.messages.last().map(|m| &m.content) {
        Some(Content::Text(text)) => tail(text).hash(&mut h),
        Some(Content::Parts(parts)) => {
            parts.iter().filter_map(Part::text).for_each(|text| tail(text).hash(&mut h));
        }
        None => {}
    }
    h.finish()
}

fn tail(text: &str) -> &[u8] {
    text.as_bytes().last_chunk::<TAIL>().map_or(text.as_bytes(), |t| t)
}

#[cfg(test)]
mod tests {
    use contract::{Message, Role};

    use super::*;

    fn asks(text: &str, max: Option<u64>) -> ChatRequest {
        let messages = vec![Message::text(Role::System, "be brief"), Message::text(Role::User, text)];
        ChatRequest { messages, max_output_tokens: max, ..ChatRequest::default() }
    }

    #[test]
    fn a_request_that_is_sent_again_has_its_mark_and_another_has_another() {
        let long = |end: &str| format!("{}{end}", "word ".repeat(1_000));
        let requests = [asks("one", None), asks("two", None), asks("one and", None), asks(&long("a"), None)];
        let marks: std::collections::HashSet<u64> = requests.iter().map(|r| of(r, None, 7)).collect();
        assert_eq!(marks.len(), requests.len());
        assert!(requests.iter().all(|r| of(r, None, 7) == of(&r.clone(), None, 7)));
        let (a, b) = (asks(&long("a"), None), asks(&long("b"), None));
        assert_ne!(of(&a, None, 7), of(&b, None, 7));
        assert_ne!(of(&a, None, 7), of(&a, Some(&"ann".into()), 7));
    }
}
