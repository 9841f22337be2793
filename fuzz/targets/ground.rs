//! The check of an answer: any answer on any source, and the same result however the answer was cut.
#![no_main]
use std::sync::Arc;

use contract::Media;
use libfuzzer_sys::fuzz_target;
use text::extract::{Limits, extract};
use text::ground::{Grounder, Policy, Source};
use text::{Estimate, chunk};

fuzz_target!(|input: (u8, &str, &str)| {
    let (seed, source, answer) = input;
    let Ok(doc) = extract(source.as_bytes(), Some(Media::Plain), &Limits::default()) else { return };
    let chunks = chunk::chunk(&doc, 40, 0, &Estimate);
    let source = Arc::new(Source::new(&doc, &chunks));
    let policy = [Policy::Drop, Policy::Flag, Policy::Keep][usize::from(seed) % 3];
    let run = |pieces: &[&str]| {
        let mut g = Grounder::new(source.clone(), policy);
        let mut out: Vec<_> = pieces.iter().flat_map(|p| g.push(p)).collect();
        out.extend(g.finish());
        format!("{out:?} {:?}", g.report())
    };
    assert_eq!(run(&[answer]), run(&forebay_fuzz::text_pieces(seed, answer)));
});
