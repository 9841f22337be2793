//! What names and addresses of the registry's webhooks may be.

use store::tracking::Refused;

use super::{Checked, length};
use crate::posix::repr;

const NAME: usize = 63;
const URL: usize = 2_000;
const TEXT: usize = 1_000;

/// A name of a webhook.
///
/// # Errors
/// Of one that is empty or too long, and of characters that none may have.
pub fn webhook_name(name: &str) -> Checked {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let within = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = name.len() <= NAME && name.chars().all(within);
    if fits && end(name.chars().next()) && end(name.chars().next_back()) {
        return Ok(());
    }
    Err(Refused::invalid(format!(
        "Webhook name {} is invalid. It must start and end with a letter or digit, be less than 63 characters long, and contain \
         only letters, digits, dots (.), underscores (_), and hyphens (-).",
        repr(name)
    )))
}

/// An address of a webhook: its host. Whether it may be asked is another's to say; `plain` where that is so without TLS too.
///
/// # Errors
/// Of one that is empty or too long, begins otherwise than with `https://`, or names no host.
pub fn webhook_url(url: &str, plain: bool) -> Checked<&str> {
    let shown = || repr(url);
    if url.trim().is_empty() {
        return Err(Refused::invalid(format!("Webhook URL cannot be empty or just whitespace: {}", shown())));
    }
    length("url", URL, url)?;
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let scheme = if is_scheme { scheme.to_ascii_lowercase() } else { String::new() };
    if scheme != "https" && !(plain && scheme == "http") {
        let scheme = repr(&scheme);
        return Err(Refused::invalid(format!(
            "Invalid webhook URL scheme: {scheme}. Allowed schemes are: https."
        )));
    }
    let authority = rest.strip_prefix("//").and_then(|r| r.split(['/', '?', '#']).next()).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() {
        return Err(Refused::invalid(format!("Webhook URL must include a hostname: {}", shown())));
    }
    Ok(host)
}

/// The description of a webhook, or its secret.
///
/// # Errors
/// Of one that is too long.
pub fn webhook_text(text: &str, name: &str) -> Checked {
    length(name, TEXT, text)
}

/// That a webhook would be told of nothing.
pub fn webhook_without_events() -> Refused {
    Refused::invalid("Webhook events must be a non-empty list of WebhookEvent objects: [].")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_and_ends_with_a_letter_or_a_digit_and_is_not_too_long() {
        for name in ["a", "A.b_c-9", "7", &"a".repeat(63)] {
            assert_eq!(webhook_name(name), Ok(()), "{name}");
        }
        for name in ["", "-a", "a-", ".", "a b", "ü", "a\n", "a/b", &"a".repeat(64)] {
            assert!(webhook_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_address_begins_with_https_and_names_a_host() {
        for (url, host) in [
            ("https://a.example/x?y", "a.example"),
            ("HTTPS://a.example:8443", "a.example"),
            ("https://u:p@a.example#f", "a.example"),
            ("https://[::1]:9/x", "::1"),
        ] {
            assert_eq!(webhook_url(url, false), Ok(host));
        }
        assert_eq!(webhook_url("http://a.example/", true), Ok("a.example"));
        let said = |url: &str| webhook_url(url, false).unwrap_err().message;
        assert_eq!(said("http://a"), "Invalid webhook URL scheme: 'http'. Allowed schemes are: https.");
        assert_eq!(said("a.example/x:y"), "Invalid webhook URL scheme: ''. Allowed schemes are: https.");
        assert_eq!(said(" "), "Webhook URL cannot be empty or just whitespace: ' '");
        assert_eq!(said("https:///x"), "Webhook URL must include a hostname: 'https:///x'");
        assert_eq!(said("https:x"), "Webhook URL must include a hostname: 'https:x'");
        assert!(said(&format!("https://a/{}", "x".repeat(2_000))).contains("maximum length"));
    }
}
