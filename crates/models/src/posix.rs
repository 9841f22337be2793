//! Paths and texts as Python sees them.

/// A path with its `.`, `..` and doubled slashes resolved, as `posixpath.normpath` does it.
pub(crate) fn normpath(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let slashes = path.len() - path.trim_start_matches('/').len();
    // Two are kept, more are one.
    let root = match slashes {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if root.is_empty() && parts.last().is_none_or(|p| *p == "..") => parts.push(part),
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let joined = format!("{root}{}", parts.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

/// A text in JSON as `json.dumps` writes it: in ASCII.
pub(crate) fn dumps(text: &str) -> String {
    use std::fmt::Write as _;
    let mut said = String::with_capacity(text.len() + 2);
    said.push('"');
    for c in text.chars() {
        match c {
            '"' => said.push_str("\\\""),
            '\\' => said.push_str("\\\\"),
            '\n' => said.push_str("\\n"),
            '\r' => said.push_str("\\r"),
            '\t' => said.push_str("\\t"),
            '\u{8}' => said.push_str("\\b"),
            '\u{c}' => said.push_str("\\f"),
            ' '..='~' => said.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(said, "\\u{unit:04x}");
                }
            }
        }
    }
    said.push('"');
    said
}

/// A text as Python's `repr` shows it.
pub(crate) fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut said = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => said.push_str("\\\\"),
            '\n' => said.push_str("\\n"),
            '\r' => said.push_str("\\r"),
            '\t' => said.push_str("\\t"),
            c if c == quote => said.extend(['\\', c]),
            c if c.is_control() => said.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => said.push(c),
        }
    }
    said.push(quote);
    said
}

/// The text without its end, in at most `limit` characters.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    text.char_indices().nth(limit).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_texts_are_as_python_has_them() {
        for (path, norm) in [
            ("", "."),
            ("a//b/./c/../d", "a/b/d"),
            ("/a/../..", "/"),
            ("../x", "../x"),
            ("a/..", "."),
            ("//a", "//a"),
            ("///a/", "/a"),
            ("x/../../y", "../y"),
        ] {
            assert_eq!(normpath(path), norm, "{path}");
        }
        assert_eq!(dumps("a\"é\u{1f600}\n"), r#""a\"\u00e9\ud83d\ude00\n""#);
        assert_eq!((repr("a'b"), repr("a\n")), ("\"a'b\"".to_owned(), "'a\\n'".to_owned()));
        assert_eq!((cut("äöü", 2), cut("ä", 2)), ("äö", "ä"));
    }
}
