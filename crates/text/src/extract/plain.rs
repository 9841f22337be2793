//! Plain text: kept as it is, with line ends made equal. Headings are recognised only where the text marks them:
//! a line underlined by `===` or `---`, or a numbered or upper-case line alone in its paragraph.

use contract::Error;

use super::builder::Builder;

pub(super) fn extract(text: &str, out: &mut Builder) -> Result<(), Error> {
    let clean;
    let text = if text.contains('\r') {
        clean = text.replace("\r\n", "\n").replace('\r', "\n");
        &clean
    } else {
        text
    };
    let base = out.len();
    out.raw(text)?;
    let mut at = 0;
    let mut blank_before = true;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let body = line.trim();
        let next = lines.peek().map_or("", |l| l.trim());
        if blank_before && !body.is_empty() {
            let underlined = body.len() > 1
                && next.len() >= 3
                && next.len() * 2 >= body.len()
                && (next.bytes().all(|b| b == b'=') || next.bytes().all(|b| b == b'-'));
            if underlined {
                out.section_at(body, if next.starts_with('=') { 1 } else { 2 }, base + at);
            } else if next.is_empty()
                && let Some(level) = marked(body)
            {
                out.section_at(body, level, base + at);
            }
        }
        blank_before = body.is_empty();
        at += line.len();
    }
    Ok(())
}

/// The level of a line that can only be a heading: `CHAPTER IV`, `3.2 Results`.
fn marked(line: &str) -> Option<u8> {
    if line.len() > 80 || line.ends_with(['.', ',', ';', ':', '!', '?']) {
        return None;
    }
    let letters = || line.chars().filter(|c| c.is_alphabetic());
    let first = line.split_whitespace().next()?;
    let numbered = first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && first.len() <= 8;
    if numbered {
        let title = line.get(first.len()..)?.trim_start();
        let depth = first.split('.').filter(|p| !p.is_empty()).count();
        return title.starts_with(char::is_uppercase).then(|| u8::try_from(depth).unwrap_or(6).clamp(1, 6));
    }
    let chapter = ["Chapter ", "Part ", "Section ", "Appendix ", "Book "].iter().any(|p| line.starts_with(p));
    (chapter || (letters().count() >= 4 && letters().all(char::is_uppercase))).then_some(1)
}
