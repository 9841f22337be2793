//! `${NAME}` in strings: any text; a value that is put in is never scanned again.
#![no_main]
use forebay::config::env::{Env, substitute};
use forebay::config::tree::{Data, Node, Place};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let env: Env = [("A", "${B}"), ("B", "secret")].into_iter().collect();
    let mut node = Node { at: Place::default(), data: Data::Text(text.to_owned()) };
    let mut problems = Vec::new();
    let done = substitute(&mut node, &env, &mut problems);
    assert_eq!(done.missing.is_empty(), problems.is_empty());
    let Data::Text(out) = node.data else { panic!("text became something else") };
    if !text.contains("${") {
        assert_eq!(out, text);
    }
    if !text.contains("${B") && !text.contains("secret") {
        assert!(!out.contains("secret"), "{text} became {out}");
    }
});
