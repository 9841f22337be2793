//! `${NAME}` in strings: any text; a value that is put in is never scanned again.
#![no_main]
use forebay::config::env::{Env, substitute};
use forebay::config::tree::{Data, Node, Place};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "\u{2603}";

fuzz_target!(|text: &str| {
    // One character, so that no pieces of the text around a placeholder can come together to it.
    let env: Env = [("A", "${B}"), ("B", SECRET)].into_iter().collect();
    let mut node = Node { at: Place::default(), data: Data::Text(text.to_owned()) };
    let mut problems = Vec::new();
    let done = substitute(&mut node, &env, &mut problems);
    assert_eq!(done.missing.is_empty(), problems.is_empty());
    let Data::Text(out) = node.data else { panic!("text became something else") };
    if !text.contains("${") {
        assert_eq!(out, text);
    }
    if !text.contains("${B") && !text.contains(SECRET) {
        assert!(!out.contains(SECRET), "{text} became {out}");
    }
});
