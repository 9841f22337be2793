//! `NaN`, `Infinity` and `-Infinity` as Python's `json.dumps` writes them, which no JSON parser takes: put into quotes.
//!
//! Only for bodies that were refused: it costs a copy.

/// The text with those words quoted, or nothing when there are none outside of strings.
pub(in crate::protocol) fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let (mut at, mut any) = (0, false);
    while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
        let plain = memchr::memchr3(b'"', b'N', b'I', rest).unwrap_or(rest.len());
        out.extend_from_slice(rest.get(..plain).unwrap_or_default());
        let rest = rest.get(plain..).unwrap_or_default();
        let taken = match rest.first() {
            None => 0,
            Some(b'"') => {
                let length = string(rest);
                out.extend_from_slice(rest.get(..length).unwrap_or_default());
                length
            }
            Some(_) if rest.starts_with(b"NaN") => word(&mut out, "NaN", &mut any),
            Some(_) if rest.starts_with(b"Infinity") => {
                let minus = out.pop_if(|last| *last == b'-').is_some();
                let length = if minus { "-Infinity" } else { "Infinity" };
                word(&mut out, length, &mut any);
                "Infinity".len()
            }
            Some(other) => {
                out.push(*other);
                1
            }
        };
        at += plain + taken;
    }
    any.then_some(out)
}

fn word(out: &mut Vec<u8>, word: &str, any: &mut bool) -> usize {
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
    *any = true;
    word.len()
}

/// How long the string is that begins here, quotes included; what has no end is all there is.
pub(super) fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(rest) = text.get(at..) {
        match memchr::memchr2(b'"', b'\\', rest) {
            None => return text.len(),
            Some(n) if rest.get(n) == Some(&b'"') => return at + n + 1,
            // What is escaped ends nothing.
            Some(n) => at += n + 2,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn bare_words_are_quoted_and_strings_left_alone() {
        let quoted = |t: &str| super::quoted(t.as_bytes()).map(|q| String::from_utf8(q).unwrap());
        assert_eq!(
            quoted(r#"{"a":[NaN, -Infinity,Infinity, 1]}"#).unwrap(),
            r#"{"a":["NaN", "-Infinity","Infinity", 1]}"#
        );
        assert_eq!(quoted(r#"{"NaN":["-Infinity","\"NaN"]}"#), None);
        assert_eq!(quoted(r#"["\\",NaN]"#).unwrap(), r#"["\\","NaN"]"#);
        for broken in ["\"", "\"\\", "N", "I", "-", "[NaN", ""] {
            let _ = quoted(broken);
        }
    }
}
