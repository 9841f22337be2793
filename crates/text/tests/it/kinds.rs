//! What each kind promises, as a caller of a pipeline sees it.

use contract::{Event, Kind, Outcome, Value};
use serde_json::json;
use text::{CountTokens, Estimate};

use crate::say::{run, stage};

const DOC: &str = "Debian was announced by Ian Murdock on 16 August 1993. The project has 1,234 members in three teams. \
    Raphaël Hertzog wrote the handbook about installing servers.";

/// The second sentence has a number that the document does not have. The pieces end inside sentences.
const PIECES: [&str; 5] = [
    "Ian Murdock announced Debian",
    " in August 1993. The project has",
    " 99 members. Raphaël Hertzog",
    " wrote the handbook about servers. It has",
    " three teams.",
];

const FIRST: &str = "Ian Murdock announced Debian in August 1993. [1]";
const THIRD: &str = " Raphaël Hertzog wrote the handbook about servers. [2]";

fn grounded(streams: bool, policy: &str, pieces: &[&str]) -> Vec<pipeline::StageSpec> {
    let ground = json!({"policy": policy, "chunk": 16});
    vec![
        stage("answer", "say", json!({"streams": streams, "pieces": pieces}), &[("of", "input")]),
        stage("checked", "ground", ground, &[("text", "answer"), ("source", "input")]),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_shown_sentence_by_sentence_while_it_is_made() {
    let ran = run(grounded(true, "drop", &PIECES), Kind::Text, DOC).await;
    let shown = ran.deltas();
    assert_eq!(shown[0], (200, FIRST), "before the third piece is made");
    assert_eq!(shown[1], (400, THIRD), "the unsupported sentence before it is left out");
    let all: String = shown.iter().map(|(_, t)| *t).collect();
    assert!(all.ends_with("It has three teams.") || all.contains("It has three teams. ["), "{all}");
    assert!(!all.contains("99 members"));
    assert_eq!(ran.outcome, Outcome::Complete(Value::text(all)));
}

#[tokio::test(start_paused = true)]
async fn what_the_check_found_is_recorded() {
    let ran = run(grounded(true, "drop", &PIECES), Kind::Text, DOC).await;
    let grounding = &ran.facts["grounding"];
    assert_eq!((&grounding["sentences"], &grounding["dropped"]), (&json!(4), &json!(1)));
    let citation = &ran.facts["citations"][0];
    let at = |k: &str| usize::try_from(citation[k].as_u64().unwrap()).unwrap();
    assert_eq!(&DOC[at("start")..at("end")], citation["quote"].as_str().unwrap());
    assert!(ran.facts["coverage"].as_f64().unwrap() > 0.0);
    assert!(matches!(ran.events.last(), Some((_, Event::Done { facts, .. })) if *facts == ran.facts));
}

#[tokio::test]
async fn a_finished_text_is_checked_as_a_streamed_one_is() {
    for policy in ["drop", "flag", "keep"] {
        let streamed = run(grounded(true, policy, &PIECES), Kind::Text, DOC).await;
        let finished = run(grounded(false, policy, &PIECES), Kind::Text, DOC).await;
        assert_eq!(finished.outcome, streamed.outcome);
        assert_eq!(finished.facts, streamed.facts);
        let shown = |ran: &crate::say::Ran| ran.deltas().iter().map(|(_, t)| *t).collect::<String>();
        assert_eq!(shown(&finished), shown(&streamed));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_text_is_complete_and_covers_nothing() {
    let ran = run(grounded(true, "drop", &[]), Kind::Text, DOC).await;
    assert_eq!(ran.outcome, Outcome::Complete(Value::text("")));
    assert_eq!(ran.facts["coverage"], json!(0.0));
}

#[tokio::test]
async fn a_long_document_gets_a_draft_a_selection_and_a_checked_answer() {
    let about = ["opened by the harbour office of Lisbon", "deepened for ships with coal", "sold to a bank"];
    let doc: String =
        (1..400).map(|n| format!("Port {n} was {} in {}. ", about[n % about.len()], 1_500 + n)).collect();
    let stages = vec![
        stage("draft", "extractive", json!({"sentences": 2}), &[("document", "input")]),
        stage(
            "picked",
            "select",
            json!({"tokens": 200, "chunk": 1_000, "per": "chunk"}),
            &[("document", "input")],
        ),
        stage("answer", "say", json!({"streams": true}), &[("of", "picked")]),
        stage("checked", "ground", json!({}), &[("text", "answer"), ("source", "input")]),
    ];
    let ran = run(stages, Kind::Text, &doc).await;
    let place = |f: fn(&Event) -> bool| ran.events.iter().position(|(_, e)| f(e));
    let draft = place(|e| matches!(e, Event::Draft { text } if text.matches("Port").count() == 2)).unwrap();
    assert!(draft < place(|e| matches!(e, Event::Delta { .. })).unwrap(), "the draft comes first");
    assert!(matches!(ran.outcome, Outcome::Complete(_)));
    let grounding = &ran.facts["grounding"];
    assert!(grounding["sentences"].as_u64().unwrap() > 2);
    assert_eq!(grounding["supported"], grounding["sentences"], "it repeats the document");
}

#[tokio::test]
async fn chunks_and_selections_keep_to_their_tokens() {
    let doc: String =
        (0..900).map(|n| format!("Sentence {n} speaks of {} ships and their cargo. ", n * 7)).collect();
    for (kind, config, each, all) in [
        ("chunk", json!({"tokens": 300, "overlap": 20}), 300, u32::MAX),
        ("select", json!({"tokens": 500, "chunk": 2_000, "per": "chunk"}), 500, 500),
        ("select", json!({"tokens": 500, "chunk": 2_000, "per": "document"}), 500, 500),
    ] {
        let ran = run(vec![stage("s", kind, config, &[("document", "input")])], Kind::Chunks, &doc).await;
        let Outcome::Complete(Value::Chunks(chunks)) = ran.outcome else { unreachable!("no chunks") };
        let counts: Vec<u32> = chunks.iter().map(|c| Estimate.count(&c.text)).collect();
        assert!(chunks.len() > 1 || kind == "select");
        assert!(counts.iter().all(|n| *n > 0 && *n <= each), "{kind}: {counts:?}");
        assert!(counts.iter().sum::<u32>() <= all, "{kind}: {counts:?}");
        assert!(counts.iter().sum::<u32>() > 300, "{kind} uses what it may: {counts:?}");
    }
}
