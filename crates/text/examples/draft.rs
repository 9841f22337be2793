//! Takes a document from a file to its draft, and prints what it says and how long each step took:
//! `cargo run --release -p forebay-text --example draft -- FILE [SENTENCES]`.
#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use contract::{Clock, SystemClock};
use text::extract::{Limits, extract, media_of_name};
use text::extractive::{Per, select, summarize, summary};
use text::ground::Source;
use text::{CountTokens, Estimate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("name a file")?;
    let sentences = args.next().map_or(Ok(5), |n| n.parse())?;
    let bytes = std::fs::read(&path)?;
    let clock = SystemClock::default();
    let mut totals = Vec::new();
    for round in 0..21 {
        let start = clock.now();
        let doc = extract(&bytes, media_of_name(&path), &Limits::default())?;
        let extracted = clock.now();
        let chunks = text::chunk::chunk(&doc, 1_200, 100, &Estimate);
        let chunked = clock.now();
        let draft = summary(&doc, sentences);
        let end = clock.now();
        totals.push(end.since(start));
        if round < 20 {
            continue;
        }
        let selected = select(&doc, &chunks, 6_000, Per::Chunk, &Estimate);
        let picked = clock.now();
        let source = Source::new(&doc, &chunks);
        let indexed = clock.now();
        drop(source);
        println!(
            "{} bytes of text, {} tokens, {} sections, {} chunks",
            doc.text.len(),
            Estimate.count(&doc.text),
            doc.sections.len(),
            chunks.len()
        );
        println!(
            "extract {:?}, chunk {:?}, draft {:?}",
            extracted.since(start),
            chunked.since(extracted),
            end.since(chunked)
        );
        println!(
            "select {:?} ({} tokens), index {:?}",
            picked.since(end),
            selected.iter().map(|s| s.chunk.tokens).sum::<u32>(),
            indexed.since(picked)
        );
        println!("{} sentences:\n{}", draft.len(), summarize(&doc, sentences));
    }
    totals.sort();
    println!("all together: median {:?}, worst {:?} of {}", totals.get(10), totals.last(), totals.len());
    Ok(())
}
