//! PDF: any bytes end as a document or an error, within the limits.
#![no_main]
use contract::Media;
use libfuzzer_sys::fuzz_target;
use text::extract::{Limits, extract};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { max_text_bytes: 64 << 10, max_decompressed_bytes: 1 << 20, ..Limits::default() };
    if let Ok(doc) = extract(bytes, Some(Media::Pdf), &limits) {
        assert!(doc.text.len() <= limits.max_text_bytes);
    }
});
