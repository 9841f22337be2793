//! The loader on arbitrary input: no panic, bounded work, and the right place for every key.

use std::path::Path;
use std::sync::LazyLock;

use forebay::config::tree::{Data, Node, join};
use forebay::config::{Env, Rules, spans};
use pipeline::Registry;
use proptest::prelude::*;

static KINDS: LazyLock<Registry> = LazyLock::new(super::kinds::registry);
static RULES: LazyLock<Rules<'static>> = LazyLock::new(|| Rules::new(&KINDS));

#[derive(Debug, Clone)]
enum Tree {
    Leaf(u32),
    List(Vec<Tree>),
    Map(Vec<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    any::<u32>().prop_map(Tree::Leaf).prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..5).prop_map(Tree::List),
            prop::collection::vec(inner, 1..5).prop_map(Tree::Map),
        ]
    })
}

/// Writes a block map and notes where each key stands.
fn write(
    tree: &Tree,
    indent: usize,
    pointer: &str,
    out: &mut String,
    keys: &mut Vec<(String, usize, usize)>,
) {
    let pad = " ".repeat(indent);
    match tree {
        Tree::Leaf(n) => *out += &format!("{pad}{n}\n"),
        Tree::List(items) => {
            for (i, item) in items.iter().enumerate() {
                *out += &format!("{pad}-\n");
                write(item, indent + 2, &join(pointer, &i.to_string()), out, keys);
            }
        }
        Tree::Map(items) => {
            for (i, item) in items.iter().enumerate() {
                let pointer = join(pointer, &format!("é{i}"));
                keys.push((pointer.clone(), out.lines().count() + 1, indent + 1));
                *out += &format!("{pad}é{i}:\n");
                write(item, indent + 2, &pointer, out, keys);
            }
        }
    }
}

proptest! {
    #[test]
    fn every_key_of_a_random_tree_is_found_at_its_place(tree in tree()) {
        let (mut text, mut keys) = (String::new(), Vec::new());
        write(&Tree::Map(vec![tree]), 0, "", &mut text, &mut keys);
        let parsed = spans::parse(&text);
        prop_assert!(parsed.problems.is_empty(), "{text}{:?}", parsed.problems);
        let root = parsed.root.unwrap();
        for (pointer, line, column) in keys {
            let found = root.locate(&pointer);
            prop_assert!(found.exact);
            prop_assert_eq!((found.label().line, found.label().column), (line, column));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        RULES.check(&bytes, Path::new("."), &Env::default());
    }

    #[test]
    fn arbitrary_yaml_punctuation_never_panics_the_loader(text in "[a{}\\[\\]:,&*!|>'\"%#@` \n\t$-]{0,80}") {
        RULES.check(text.as_bytes(), Path::new("."), &Env::default());
    }
}

#[test]
fn an_anchor_bomb_costs_bounded_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..9 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        text += &format!("a{i}: &a{i} [{refs}]\n");
    }
    let parsed = spans::parse(&text);
    assert!(parsed.root.is_none());
    assert!(parsed.problems[0].message.contains("values"), "{:?}", parsed.problems);
}

#[test]
fn a_merge_brings_only_what_is_not_written_beside_it() {
    let parsed = spans::parse("base: &b {x: 1, y: 2}\nown: {<<: *b, x: 3}\n");
    let own = parsed.root.unwrap().get("own").cloned().unwrap();
    let value = |k: &str| own.get(k).map(|n: &Node| n.data.clone());
    assert_eq!((value("x"), value("y")), (Some(Data::Int(3)), Some(Data::Int(2))));
}

#[test]
fn nesting_is_bounded() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(10_000)] {
        assert!(!spans::parse(&text).problems.is_empty());
    }
}
