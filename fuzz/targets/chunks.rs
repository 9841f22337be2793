//! Sentences, chunks, drafts and selections of any text: spans inside it, in order, and budgets kept.
#![no_main]
use contract::Media;
use libfuzzer_sys::fuzz_target;
use text::extract::{Limits, extract};
use text::extractive::{Per, select, summarize, summary};
use text::{CountTokens, Estimate, chunk, sentences};

fuzz_target!(|input: (u8, u8, bool, &str)| {
    let (tokens, overlap, markdown, text) = input;
    let mut end = 0;
    for s in sentences::sentences(text) {
        assert!(text.get(s.clone()).is_some() && s.start >= end && s.start < s.end, "{s:?}");
        end = s.end;
    }
    let media = if markdown { Media::Markdown } else { Media::Plain };
    let Ok(doc) = extract(text.as_bytes(), Some(media), &Limits::default()) else { return };
    let tokens = u32::from(tokens).max(1);
    let chunks = chunk::chunk(&doc, tokens, u32::from(overlap), &Estimate);
    for c in &chunks {
        assert!(doc.text.get(c.span.clone()).is_some(), "{:?}", c.span);
    }
    let _ = summarize(&doc, 3);
    assert!(summary(&doc, 3).len() <= 3);
    for per in [Per::Chunk, Per::Document] {
        let picked = select(&doc, &chunks, tokens, per, &Estimate);
        let total: usize = picked.iter().map(|s| s.sentences.len()).sum();
        let used: u64 = picked
            .iter()
            .flat_map(|s| &s.sentences)
            .map(|s| u64::from(Estimate.count(doc.text.get(s.clone()).unwrap_or_default())))
            .sum();
        assert!(used <= u64::from(tokens), "{used} of {tokens} tokens in {total} sentences");
    }
});
