//! Gates of predictions that are not yes or no, and of rows that weigh differently.

use models::evaluate::{Key, Rows, Truth};
use models::gate::{Decision, Verdict, decide, parse};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::{NOW, case, rows};

fn decision(text: &str, new: &Rows, old: Option<&Rows>) -> Decision {
    decide(&parse(text).unwrap(), &case(new, old), NOW).unwrap()
}

fn regression(seed: u64, noise: f64) -> Rows {
    let mut hidden = Pcg64::seed_from_u64(1);
    let mut own = Pcg64::seed_from_u64(seed);
    let truth: Vec<f64> = (0..1_500).map(|_| 10.0 * hidden.random::<f64>()).collect();
    let predicted = truth.iter().map(|y| y + noise * (own.random::<f64>() - 0.5)).collect();
    let route = (0..1_500).map(|row| Some(if row % 2 == 0 { "east" } else { "west" }));
    Rows::new(Truth::Regression { truth, predicted }).unwrap().key(Key::new("route", route)).unwrap()
}

#[test]
fn a_number_is_gated_by_its_error() {
    let (good, bad) = (regression(2, 1.0), regression(3, 3.0));
    for metric in ["mae", "rmse", "r2"] {
        let text = format!(
            "primary: {{metric: {metric}, margin: 0.02}}\nslices: {{columns: [route], margin: 0.1}}\nreplicates: 300"
        );
        assert_eq!(decision(&text, &good, Some(&bad)).verdict, Verdict::Accepted, "{metric}");
        assert_eq!(decision(&text, &bad, Some(&good)).verdict, Verdict::Refused, "{metric}");
        assert_eq!(decision(&text, &good, None).verdict, Verdict::Accepted, "{metric}: better than the mean");
        assert_eq!(
            decision(&text, &regression(4, 60.0), None).verdict,
            Verdict::Refused,
            "{metric}: the mean is better"
        );
    }
    let found = decision("primary: {metric: mae, margin: 0.02}", &bad, Some(&good));
    let check = found.failed().next().unwrap();
    assert_eq!(check.evidence["test"], "paired_t");
    assert!(
        check.sentence.starts_with("mae is 0.7") && check.sentence.contains("at worst 0.5"),
        "{}",
        check.sentence
    );
}

fn multiclass(seed: u64, noise: f64) -> Rows {
    let mut hidden = Pcg64::seed_from_u64(1);
    let mut own = Pcg64::seed_from_u64(seed);
    let labels: Vec<u32> = (0..1_200).map(|_| hidden.random_range(0..3)).collect();
    let probabilities = labels.iter().flat_map(|label| {
        let raw: Vec<f64> =
            (0..3).map(|c| f64::from(c == *label) + noise * own.random::<f64>() + 0.01).collect();
        let all: f64 = raw.iter().sum();
        raw.into_iter().map(move |p| p / all)
    });
    let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let probabilities = probabilities.collect();
    Rows::new(Truth::Multiclass { classes, labels, probabilities }).unwrap()
}

#[test]
fn one_of_several_is_gated_by_what_is_right() {
    let (good, bad) = (multiclass(2, 1.3), multiclass(3, 2.5));
    for metric in ["accuracy", "macro_f1", "log_loss"] {
        let text = format!("primary: {{metric: {metric}, margin: 0.02}}\nreplicates: 300");
        assert_eq!(decision(&text, &good, Some(&bad)).verdict, Verdict::Accepted, "{metric}");
        assert_eq!(decision(&text, &bad, Some(&good)).verdict, Verdict::Refused, "{metric}");
        assert_eq!(decision(&text, &good, None).verdict, Verdict::Accepted, "{metric}");
    }
    let found = decision("primary: {metric: accuracy, margin: 0.02}", &good, Some(&bad));
    assert_eq!(found.checks[1].evidence["test"], "mcnemar");
}

#[test]
fn rows_that_weigh_differently_are_compared_by_the_bootstrap() {
    let weighted = |seed, noise| {
        rows(seed, 1_000, noise).weighted((0..1_000).map(|n| f64::from(n % 5)).collect()).unwrap()
    };
    let (new, old) = (weighted(2, 0.2), weighted(3, 0.2));
    for metric in ["auc", "accuracy", "brier"] {
        let text = format!("primary: {{metric: {metric}, margin: 0.05}}\nreplicates: 300");
        let found = decision(&text, &new, Some(&old));
        assert_eq!(found.checks[1].evidence["test"], "bootstrap", "{metric}");
        assert_eq!(found.verdict, Verdict::Accepted, "{metric}");
    }
    let asked = "primary: {metric: auc, margin: 0.05, test: delong}";
    assert_eq!(
        decision(asked, &new, Some(&old)).verdict,
        Verdict::Refused,
        "it knows no weights, so nothing is shown"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the two models are: accepted exactly when every check held, every sentence is one, and all of it is the same again.
    #[test]
    fn a_model_is_accepted_exactly_when_every_check_held(
        noise in 0.0..3.0, other in 0.0..3.0, margin in 0.0..0.2, ece in 0.0..0.3, seed in 0_u64..50, champion in any::<bool>(),
    ) {
        let (new, old) = (rows(seed + 10, 400, noise), rows(seed + 100, 400, other));
        let text = format!(
            "primary: {{metric: auc, margin: {margin}}}\ncalibration: {{ece: {ece}, brier: 0.01}}\nreplicates: 100\n\
             slices: {{columns: [carrier], margin: 0.2}}\nfairness: {{columns: [region], ratio: 0.5}}\n"
        );
        let old = champion.then_some(&old);
        let found = decision(&text, &new, old);
        prop_assert_eq!(found.verdict == Verdict::Accepted, found.failed().next().is_none());
        for check in &found.checks {
            prop_assert!(check.sentence.len() > 10 && !check.sentence.contains("NaN"), "{:?}", check);
            prop_assert!(check.value.is_none_or(f64::is_finite));
        }
        prop_assert_eq!(&decision(&text, &new, old), &found);
        let text = serde_json::to_string(&found).unwrap();
        prop_assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), found);
    }
}

proptest! {
    /// Files come from people and envelopes from anywhere: both are read or refused, never worse.
    #[test]
    fn any_text_is_a_gate_or_a_list_of_problems(text in "([a-z_]{1,12}: |[{}\\[\\],]|[0-9.-]{1,5}|\n  ?|primary: \\{metric: auc, margin: 0\\}\n|.){0,40}") {
        if let Err(problems) = parse(&text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|p| p.line >= 1 && !p.message.is_empty()));
        }
    }

    #[test]
    fn any_envelope_is_opened_or_refused(payload in ".{0,60}", sig in "[A-Za-z0-9+/=]{0,100}", key in prop::collection::vec(any::<u8>(), 0..40)) {
        use models::gate::seal::{DECISION, PublicKey, Sealed, Signature};
        let signatures = vec![Signature { keyid: "k".into(), sig }];
        let sealed = Sealed { payload_type: DECISION.into(), payload, signatures };
        let key = PublicKey { id: "k".into(), bytes: key };
        prop_assert!(sealed.open::<serde_json::Value>(DECISION, &[key]).is_err());
    }
}
