//! Plain text, Markdown and HTML: any bytes; sections lie on character boundaries, in order, inside the text.
#![no_main]
use contract::Media;
use libfuzzer_sys::fuzz_target;
use text::extract::{Limits, extract};

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let media = match which % 4 {
        0 => Some(Media::Plain),
        1 => Some(Media::Markdown),
        2 => Some(Media::Html),
        _ => None,
    };
    let limits = Limits { max_text_bytes: 64 << 10, ..Limits::default() };
    let Ok(doc) = extract(bytes, media, &limits) else { return };
    assert!(doc.text.len() <= limits.max_text_bytes);
    let mut end = 0;
    for s in &doc.sections {
        assert!(doc.text.get(s.span.clone()).is_some(), "{:?} in {} bytes", s.span, doc.text.len());
        assert!(s.span.start >= end, "sections overlap");
        end = s.span.end;
    }
});
