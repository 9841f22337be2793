//! Cards and reports: everything of the record, nothing else, and nobody's markup.

use contract::UnixMillis;
use models::card::Record;
use models::evaluate::{EvaluateConfig, evaluate};
use models::gate::{Field, Measured, ModelSignature, decide, parse};
use models::reproduce::Description;
use serde_json::json;

use crate::gate::{FULL, NOW, case, rows};

const HOSTILE: &str = "<img src=x onerror=alert(1)>|`*[a](http:b)\n# \"'&";

fn record(name: &str) -> Record {
    let (new, old) = (rows(2, 1_500, 0.2), rows(3, 1_500, 0.4));
    let config = EvaluateConfig {
        slices: vec!["carrier".into()],
        groups: vec!["region".into()],
        ..EvaluateConfig::default()
    };
    let case = case(&new, Some(&old));
    let mut decision = decide(&parse(FULL).unwrap(), &case, NOW).unwrap();
    decision.checks[0].sentence.push_str(name);
    let mut evaluation = evaluate(&new, &config).unwrap();
    evaluation.slices[0].parts[0].value = name.to_owned();
    evaluation.slices[0].column = name.to_owned();
    evaluation.fairness[0].groups[0].value = name.to_owned();
    evaluation.fairness[0].small.push((name.to_owned(), 3));
    let pair = || [(name.to_owned(), name.to_owned())].into();
    Record {
        model: name.to_owned(),
        version: "7".into(),
        id: "m-1234".into(),
        purpose: name.to_owned(),
        limits: vec!["not for night flights".into(), name.to_owned()],
        owner: name.to_owned(),
        kind: "gradient-boosted trees".into(),
        trained_at: Some(UnixMillis(1_767_225_600_000)),
        training_seconds: Some(75.0),
        measured: Measured { latency_p99_ms: Some(0.8), artifact_bytes: Some(1_500_000), memory_bytes: None },
        signature: Some(ModelSignature {
            inputs: vec![Field { name: name.to_owned(), ty: "float".into(), optional: true }],
            outputs: vec![],
        }),
        made_of: Description {
            data: pair(),
            features: pair(),
            code: pair(),
            params: [(name.to_owned(), json!({"depth": 4, "why": name}))].into(),
            seed: 5,
            environment: pair(),
        },
        holdout: Some(case.holdout.clone()),
        evaluation: Some(evaluation),
        champion: Some(evaluate(&old, &config).unwrap()),
        importance: vec![(name.to_owned(), 12.5), ("wind".into(), 2.5)],
        decision: Some(decision),
    }
}

#[test]
fn a_card_says_what_the_record_says() {
    let card = record("delay").card();
    if let Some(path) = std::env::var_os("MODEL_CARD") {
        std::fs::write(path, &card).unwrap();
    }
    for said in [
        "# delay 7\n",
        "| trained | 2026-01-01 00:00:00 UTC, in 75 s |",
        "- not for night flights\n",
        "On 1,500 rows of flights@7, 1970-01-01 00:00:02 UTC to 1970-01-01 00:00:03 UTC: binary classification.",
        "| figure | value | champion |\n| --- | --- | --- |\n| accuracy | 0.",
        "### By delay, the worst first",
        "- equalised odds difference: 0.",
        "Too few rows to compare: delay (3).",
        "| holdout | yes | the holdout `flights`@7 has 1500 rows, the same for both",
        "| parameter | delay | \\{\"depth\":4,\"why\":\"delay\"\\} |",
        "| takes | delay | float, optional |",
        "- memory: not measured",
        "| wind | 2.5 |",
    ] {
        let plain = card.replace("\\`", "`");
        assert!(plain.contains(said), "{said:?} is not on the card:\n{card}");
    }
    assert!(!card.contains("\n\n\n\n"), "{card}");
}

#[test]
fn tables_of_a_card_are_whole() {
    for line in record(HOSTILE).card().lines().filter(|l| l.starts_with('|')) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!((3..=6).contains(&bars) && line.ends_with('|'), "{line}");
    }
}

#[test]
fn a_card_shows_markup_as_it_is() {
    let card = record(HOSTILE).card();
    assert!(!card.contains("<img") && !card.contains("\n# \"") && !card.contains("[a](http"), "{card}");
    assert!(
        card.contains("&lt;img src=x onerror=alert(1)&gt;\\|\\`\\*\\[a\\](http:b) \\# \"'&amp;"),
        "{card}"
    );
}

#[test]
fn a_page_has_its_plots_escapes_all_names_and_loads_nothing() {
    let page = record(HOSTILE).page();
    assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>\""), "{page}");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    for loaded in ["<script", "src=\"", "href=", "url(", "@import", "http://", "https:"] {
        assert!(!page.contains(loaded), "{loaded}");
    }
    assert_eq!(page.matches("<svg").count(), 3);
    let page = record("delay").page();
    if let Some(path) = std::env::var_os("MODEL_PAGE") {
        std::fs::write(path, &page).unwrap();
    }
    for shown in [
        "ROC curve",
        "Calibration",
        "champion 0.",
        "the worst first",
        "accepted",
        "not for night flights",
        "m-1234",
    ] {
        assert!(page.contains(shown), "{shown} is not on the page");
    }
}

#[test]
fn what_is_not_recorded_is_said_not_to_be() {
    let bare = Record { model: "m".into(), version: "1".into(), ..Record::default() };
    let card = bare.card();
    for said in [
        "What it is for is not recorded.",
        "None are recorded. That is not to say that there are none.",
        "It was not evaluated.",
        "No groups were compared.",
        "No gate was asked whether it may answer.",
        "| decision | none: no gate was asked |",
        "99th percentile of an answer: not measured",
    ] {
        assert!(card.contains(said), "{said}:\n{card}");
    }
    let page = bare.page();
    assert!(page.contains("no gate was asked") && !page.contains("<svg"), "{page}");
    assert!(page.ends_with("</html>"), "{page}");
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let record = record("delay");
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
}
