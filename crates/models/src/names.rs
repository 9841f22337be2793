//! Fresh names.

use std::fmt::Write as _;

const HOW: [&str; 40] = [
    "able", "agile", "amber", "brisk", "calm", "candid", "clear", "deft", "eager", "exact", "fair", "fleet",
    "frank", "gentle", "glad", "grand", "hardy", "honest", "keen", "kind", "lively", "loyal", "lucid",
    "mellow", "merry", "neat", "nimble", "noble", "placid", "proud", "quick", "quiet", "rapid", "rare",
    "serene", "sleek", "steady", "swift", "vivid", "wise",
];
const WHAT: [&str; 40] = [
    "auk", "bass", "bear", "carp", "colt", "crane", "crow", "deer", "dove", "eel", "elk", "finch", "fox",
    "gnu", "goat", "hare", "hawk", "heron", "ibis", "jay", "kite", "lark", "loon", "lynx", "mink", "mole",
    "moth", "newt", "otter", "owl", "perch", "pike", "quail", "rook", "seal", "shad", "snipe", "swan",
    "tern", "wren",
];

/// A name for people, of what nobody named: `calm-otter-417`. It says nothing and need not be unique.
pub fn random_name(random: u64) -> String {
    let pick = |words: &[&'static str], n: u64| {
        let at = usize::try_from(n % 40).unwrap_or(0);
        words.get(at).copied().unwrap_or("plain")
    };
    format!("{}-{}-{}", pick(&HOW, random), pick(&WHAT, random / 40), random / 1_600 % 1_000)
}

/// 32 hexadecimal digits.
pub fn hex(random: u128) -> String {
    let mut text = String::with_capacity(32);
    let _ = write!(text, "{random:032x}");
    text
}
