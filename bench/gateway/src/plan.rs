//! What a client wants the upstream to do, written into the prompt: so the upstream needs no state, and sees whether
//! the prompt came through whole.

use memchr::memmem;

const MARK: &[u8] = b"@plan ";
const FILLER: &[u8] = b"The quick brown fox jumps over the lazy dog and runs on through the wood. ";

/// The answer wanted, and how long the question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Pieces of the answer.
    pub(crate) tokens: usize,
    /// Between two pieces; 0 is all at once.
    pub(crate) interval_ms: u64,
    /// Bytes of prompt behind the plan.
    pub(crate) size: usize,
}

impl Plan {
    pub(crate) fn prompt(&self) -> String {
        let Plan { tokens, interval_ms, size } = self;
        let filler: Vec<u8> = FILLER.iter().copied().cycle().take(*size).collect();
        format!("@plan {tokens} {interval_ms} {size} {}@end", String::from_utf8_lossy(&filler))
    }

    /// Finds the plan in a request's body and checks that the whole prompt is there.
    pub(crate) fn find(body: &[u8]) -> Option<Plan> {
        let at = memmem::find(body, MARK)? + MARK.len();
        let mut rest = body.get(at..)?;
        let mut number = || {
            let end = memchr::memchr(b' ', rest)?;
            let (digits, tail) = rest.split_at(end);
            rest = tail.get(1..)?;
            std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
        };
        let (tokens, interval_ms, size) = (number()?, number()?, number()?);
        let size = usize::try_from(size).ok()?;
        let (filler, end) = rest.split_at_checked(size)?;
        let whole = filler.chunks(FILLER.len()).all(|c| FILLER.starts_with(c));
        (whole && end.starts_with(b"@end")).then_some(Plan {
            tokens: usize::try_from(tokens).ok()?,
            interval_ms,
            size,
        })
    }

    /// One piece of the answer.
    pub(crate) fn token(n: usize) -> String {
        format!("tok{n} ")
    }

    /// All pieces together.
    pub(crate) fn text(&self) -> String {
        (0..self.tokens).map(Plan::token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_found_again_and_a_shortened_one_is_not() {
        let plan = Plan { tokens: 8, interval_ms: 20, size: 1024 };
        let body = serde_json::json!({"messages": [{"content": plan.prompt()}]}).to_string();
        assert_eq!(Plan::find(body.as_bytes()), Some(plan));
        assert_eq!(Plan::find(body.replacen("lazy", "busy", 1).as_bytes()), None);
        assert_eq!(Plan::find(body.replacen("quick ", "", 1).as_bytes()), None);
    }
}
