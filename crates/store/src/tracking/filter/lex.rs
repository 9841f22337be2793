//! A filter or an order as tokens. Any text is cut into tokens; what is none is [`Sort::Other`].

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// A name, with its dots and quotes: ``metrics.`a b` ``, `"m"`.
    Name,
    /// A text in single quotes.
    Text,
    /// A whole number.
    Int,
    /// A number with a point or an exponent.
    Float,
    /// `<`, `!=` and the like.
    Operator,
    /// A word of the grammar.
    Keyword,
    /// Something in brackets.
    List,
    /// Anything else.
    Other,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) sort: Sort,
    /// As it was written.
    pub(super) text: &'a str,
}

const KEYWORDS: [&str; 8] = ["AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "IS", "NULL"];

impl Token<'_> {
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.sort == Sort::Keyword && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// All tokens, without the space between them.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (sort, length) = next(rest, first);
        // At least one character is taken, and never a part of one.
        let length = length.max(first.len_utf8()).min(rest.len());
        let (token, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        found.push(Token { sort, text: token });
        rest = behind.trim_start();
    }
    found
}

fn next(rest: &str, first: char) -> (Sort, usize) {
    match first {
        '\'' => match quoted(rest, '\'') {
            Some(end) => (Sort::Text, end),
            None => (Sort::Other, rest.len()),
        },
        '(' => brackets(rest).map_or((Sort::Other, 1), |end| (Sort::List, end)),
        '<' | '>' | '=' | '!' | '~' => {
            let end = rest.find(|c| !matches!(c, '<' | '>' | '=' | '!' | '~')).unwrap_or(rest.len());
            (Sort::Operator, end)
        }
        '-' | '.' | '0'..='9' => number(rest).unwrap_or((Sort::Other, 1)),
        c if is_word(c) || matches!(c, '`' | '"') => name(rest),
        _ => (Sort::Other, 0),
    }
}

/// Where a quoted text ends; a doubled quote is part of it.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            continue;
        }
        match chars.peek() {
            Some((_, next)) if *next == quote => {
                chars.next();
            }
            _ => return Some(at + quote.len_utf8()),
        }
    }
    None
}

/// Where a bracket closes, quotes read over.
fn brackets(rest: &str) -> Option<usize> {
    let (mut depth, mut inside) = (0_usize, None);
    for (at, c) in rest.char_indices() {
        match (inside, c) {
            (Some(q), c) if q == c => inside = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => inside = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn number(rest: &str) -> Option<(Sort, usize)> {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    at += whole;
    let (mut sort, mut any) = (Sort::Int, whole > 0);
    if bytes.get(at) == Some(&b'.') {
        let part = digits(at + 1);
        any |= part > 0;
        (sort, at) = (Sort::Float, at + 1 + part);
    }
    if any && matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'-' | b'+')));
        let exponent = digits(at + 1 + sign);
        if exponent > 0 {
            (sort, at) = (Sort::Float, at + 1 + sign + exponent);
        }
    }
    let ends = !rest.get(at..).and_then(|r| r.chars().next()).is_some_and(is_word);
    (any && ends).then_some((sort, at))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '#' | '@')
}

fn name(rest: &str) -> (Sort, usize) {
    let mut at = 0;
    loop {
        let here = rest.get(at..).unwrap_or_default();
        match here.chars().next() {
            Some(q @ ('`' | '"')) => match quoted(here, q) {
                Some(end) => at += end,
                None => return (Sort::Other, rest.len()),
            },
            Some(c) if is_word(c) => at += here.find(|c| !is_word(c)).unwrap_or(here.len()),
            _ => break,
        }
        let mut behind = rest.get(at..).unwrap_or_default().chars();
        match (behind.next(), behind.next()) {
            (Some('.'), Some(c)) if is_word(c) || matches!(c, '`' | '"') => at += 1,
            _ => break,
        }
    }
    let word = rest.get(..at).unwrap_or_default();
    let keyword = KEYWORDS.iter().any(|k| k.eq_ignore_ascii_case(word));
    (if keyword { Sort::Keyword } else { Sort::Name }, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_keep_their_quotes_and_numbers_their_signs() {
        let all = tokens("metrics.`a b` >= -1.5e-3 AND tags.\"k\"!='it''s' and run_id IN ('a', \")\")");
        let sorts: Vec<(Sort, &str)> = all.iter().map(|t| (t.sort, t.text)).collect();
        assert_eq!(
            sorts,
            [
                (Sort::Name, "metrics.`a b`"),
                (Sort::Operator, ">="),
                (Sort::Float, "-1.5e-3"),
                (Sort::Keyword, "AND"),
                (Sort::Name, "tags.\"k\""),
                (Sort::Operator, "!="),
                (Sort::Text, "'it''s'"),
                (Sort::Keyword, "and"),
                (Sort::Name, "run_id"),
                (Sort::Keyword, "IN"),
                (Sort::List, "('a', \")\")"),
            ]
        );
    }

    proptest! {
        #[test]
        fn tokens_are_the_text_without_its_space(text in "[ -~äß€]{0,60}") {
            let joined: String = tokens(&text).iter().map(|t| t.text).collect();
            let without = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(without(&joined), without(&text));
        }
    }
}
