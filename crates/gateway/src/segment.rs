//! Text as a segment of a path, for whoever calls the routes.

/// Any text as one segment of a path: what RFC 3986 does not leave plain is written in per cent.
pub fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::segment;

    proptest! {
        #[test]
        fn any_text_is_one_segment_of_a_path(text in ".*") {
            let made = segment(&text);
            prop_assert!(!made.contains(['/', '?', '#', ' ']));
            let path = format!("/v1/{made}");
            prop_assert!(path.parse::<http::Uri>().is_ok());
        }
    }
}
