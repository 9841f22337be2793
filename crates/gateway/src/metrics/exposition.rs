//! The two text formats: OpenMetrics for a scraper that asks for it, Prometheus' classic one for everybody else.
//!
//! They differ in the names of counters (OpenMetrics names the family without `_total`), in `# UNIT` and in `# EOF`.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `text/plain; version=0.0.4`.
    Classic,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// What a scraper accepts.
    pub(crate) fn accepted(headers: &HeaderMap) -> Format {
        let mut all = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
        if all.any(|v| v.contains("application/openmetrics-text")) {
            Format::OpenMetrics
        } else {
            Format::Classic
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }

    /// OpenMetrics text in this format.
    pub(super) fn of(self, text: String) -> String {
        match self {
            Format::OpenMetrics => text,
            Format::Classic => classic(&text),
        }
    }
}

fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The help comes before the type that decides the name.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), rest) => help = Some((name, rest.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let total = if kind == "counter" { "_total" } else { "" };
                if let Some((_, text)) = help.take().filter(|(of, _)| *of == name) {
                    push(&mut out, &["# HELP ", name, total, " ", text]);
                }
                push(&mut out, &["# TYPE ", name, total, " ", kind]);
            }
            (Some("#"), Some("UNIT"), ..) | (Some("#"), Some("EOF"), ..) => {}
            _ => push(&mut out, &[line]),
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|p| out.push_str(p));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "# HELP a_requests Requests of all kinds.\n# TYPE a_requests counter\n\
                        a_requests_total{x=\"# HELP not\"} 3\n# HELP b_seconds Time.\n# TYPE b_seconds histogram\n\
                        # UNIT b_seconds seconds\nb_seconds_sum 1.0\n# EOF\n";

    #[test]
    fn counters_carry_their_suffix_in_the_classic_format() {
        let text = Format::Classic.of(OPEN.to_owned());
        assert_eq!(
            text,
            "# HELP a_requests_total Requests of all kinds.\n# TYPE a_requests_total counter\n\
             a_requests_total{x=\"# HELP not\"} 3\n# HELP b_seconds Time.\n# TYPE b_seconds histogram\n\
             b_seconds_sum 1.0\n"
        );
        assert_eq!(Format::OpenMetrics.of(OPEN.to_owned()), OPEN);
    }

    #[test]
    fn a_scraper_gets_what_it_accepts() {
        let mut headers = HeaderMap::new();
        assert_eq!(Format::accepted(&headers), Format::Classic);
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain"));
        assert_eq!(Format::accepted(&headers), Format::Classic);
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        headers.insert(ACCEPT, HeaderValue::from_static(prometheus));
        assert_eq!(Format::accepted(&headers), Format::OpenMetrics);
    }
}
