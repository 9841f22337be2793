//! What a stage looks up by name is a part of what it is made of.

use data::stages::Configured;
use data::{How, Policy, Source};
use serde_json::{Value as Json, json};

use super::{Hand, configured};

fn view(ttl: u64) -> Json {
    json!({"dataset": "weather", "keys": ["airport"], "event_time": "hour", "ttl_seconds": ttl, "features": ["temp"]})
}

#[test]
fn features_are_made_of_the_views_as_they_are_said() {
    let hand = Hand::new();
    let config = json!({"views": {"a": {"view": "hourly", "at": "0"}}, "as_of": "at"});
    assert!(hand.cached("features", &config));
    hand.view("hourly", view(7200));
    let before = hand.made_of("features", &config);
    assert_eq!(before.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["view hourly"]);
    hand.view("daily", view(1));
    assert_eq!(hand.made_of("features", &config), before);
    hand.view("hourly", view(3600));
    assert_ne!(hand.made_of("features", &config), before);
    hand.view("hourly", view(7200));
    assert_eq!(hand.made_of("features", &config), before);
}

#[test]
fn a_gate_is_made_of_what_the_dataset_says_of_bad_rows() {
    let hand = Hand::new();
    hand.bench.file("checks.json", r#"{"expectations": []}"#);
    let with =
        |policy| Configured { expectations: Some("checks.json".into()), policy, ..configured(How::Append) };
    let some = |max_share| with(Policy::Quarantine { max_share });
    let gate = json!({"expect": "checks.json", "dataset": "x"});
    let own = json!({"expect": "checks.json", "dataset": "x", "bad_rows": "refuse"});
    let commit = json!({"dataset": "x"});
    assert!(hand.cached("validate", &gate));
    let mut seen = Vec::new();
    for said in [with(Policy::Fail), some(0.1), some(0.2)] {
        hand.configure("x", said, Source::default());
        assert!(hand.made_of("validate", &own).is_empty(), "it says so itself");
        let both = (hand.made_of("validate", &gate), hand.made_of("commit", &commit));
        assert_eq!((both.0[0].0.as_str(), both.1[0].0.as_str()), ("bad rows of x", "dataset x"));
        assert!(!seen.iter().any(|(v, c)| *v == both.0 || *c == both.1));
        seen.push(both);
    }
    hand.bench.file("checks.json", r#"{"expectations": [{"volume": {"min": 1}}]}"#);
    assert_ne!(hand.made_of("commit", &commit), seen[2].1);
    assert_eq!(hand.made_of("validate", &gate), seen[2].0, "it names that file itself");
}
