use super::*;
use proptest::prelude::*;

fn cut(t: &str) -> Vec<&str> {
    sentences(t).into_iter().map(|s| &t[s]).collect()
}

#[test]
fn points_of_abbreviations_initials_and_numbers_end_nothing() {
    for one in [
        "Dr. J. R. Smith paid $3.50 to Acme Inc. of Ohio, i.e. Mr. Brown.",
        "See Fig. 3 and No. 12, e.g. the one from Jan. 2024.",
        "The U.S. Army moved at 5 p.m. yesterday.",
        "Version 1.2.3 of foo.bar is out.",
        "Smith et al. Showed it.",
        "He said \"Stop!\" and left.",
    ] {
        assert_eq!(cut(one), [one]);
    }
}

#[test]
fn sentences_end_at_marks_with_quotes_and_brackets() {
    assert_eq!(
        cut("He left. \"Why?\" She asked (twice.) Really?! Yes… Fine."),
        ["He left.", "\"Why?\"", "She asked (twice.)", "Really?!", "Yes…", "Fine."]
    );
    assert_eq!(cut("He lives in the U.S. The flat is big."), ["He lives in the U.S.", "The flat is big."]);
    assert_eq!(cut("It is so, isn't it? No. I doubt it."), ["It is so, isn't it?", "No.", "I doubt it."]);
    assert_eq!(cut("今日は晴れ。明日は雨！"), ["今日は晴れ。", "明日は雨！"]);
}

#[test]
fn headings_items_and_rows_are_sentences_and_wrapped_lines_are_not() {
    assert_eq!(
        cut(
            "Introduction\n\nThis is a line\nthat goes on.\n- one item\n- another\n1. First thing. Really.\n2. Second\n\na | b\nc | d"
        ),
        [
            "Introduction",
            "This is a line\nthat goes on.",
            "- one item",
            "- another",
            "1. First thing.",
            "Really.",
            "2. Second",
            "a | b",
            "c | d"
        ]
    );
}

#[test]
fn a_run_without_an_end_is_cut() {
    let t = "word ".repeat(2_000);
    assert!(sentences(&t).iter().all(|s| s.len() <= MAX_SENTENCE));
    let t = "é".repeat(5_000);
    assert!(sentences(&t).len() >= 5);
}

proptest! {
    #[test]
    fn sentences_hold_all_text_in_order(t in "([A-Za-zé。 ]{0,12}[.!?\n… ]{0,3}){0,30}|\\PC{0,200}") {
        let mut at = 0;
        for s in sentences(&t) {
            prop_assert!(t[at..s.start].trim().is_empty());
            prop_assert!(!t[s.clone()].trim().is_empty());
            at = s.end;
        }
        prop_assert!(t[at..].trim().is_empty());
    }

    #[test]
    fn complete_sentences_stay_as_they_are(t in "((the|U.S.|Dr.|The|It|No.|3|1.|end.|Theory|- |ok!|…)[ \n]{1,2}){0,25}", cut in 0..200usize) {
        let cut = t.floor_char_boundary(cut.min(t.len()));
        let early = complete(&t[..cut]);
        let all = sentences(&t);
        prop_assert_eq!(&all[..early.len()], &early[..]);
    }
}
