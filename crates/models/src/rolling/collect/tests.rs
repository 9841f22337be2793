use std::time::Duration;

use contract::{Code, UnixMillis};
use predict::observe::{Label, NamedTensor, Place};
use predict::{DataType, Tensor};
use proptest::prelude::*;

use super::*;

fn collector(metrics: &[&str]) -> Collector {
    let mut all = Collector::default();
    let metrics = metrics.iter().map(|m| (*m).to_owned()).collect();
    all.watch(&[Watched { challenger: "2".into(), metrics, slow_above_ms: Some(10) }]);
    all
}

fn answered(id: &str, entity: &str, arm: Arm, chance: f64) -> Answered {
    let tensor = Tensor::of(DataType::Fp64, vec![1, 2], vec![1.0 - chance, chance]).unwrap();
    Answered {
        id: id.into(),
        at: UnixMillis(1),
        took: Duration::from_millis(2),
        tenant: "default".into(),
        model: "m".into(),
        registered: Some("r".into()),
        version: "2".into(),
        arm,
        place: Some(Place { challenger: "2".into(), step: Some(1) }),
        entity: Some(entity.into()),
        inputs: Arc::new([]),
        figures: Arc::default(),
        words: Arc::default(),
        outputs: [NamedTensor { name: "probabilities".into(), tensor }].into(),
        error: None,
    }
}

fn told(id: &str, label: f64) -> Told {
    Told {
        tenant: "default".into(),
        id: id.into(),
        row: 0,
        label: Some(Label::Number(label)),
        name: "score".into(),
        score: None,
        comment: None,
        at: UnixMillis(2),
    }
}

fn seen(taken: &[(String, Input)]) -> Batch {
    match taken {
        [(_, Input::Seen(batch))] => batch.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_and_labels_become_batches_of_their_arm_and_step() {
    let mut all = collector(&["brier", "latency_ms", "thumbs_up"]);
    all.answered(&answered("a", "ann", Arm::Canary, 0.8));
    all.answered(&answered("b", "bob", Arm::Control, 0.5));
    all.answered(&answered("c", "bob", Arm::Control, 0.5));
    let slow = Answered {
        took: Duration::from_millis(20),
        error: Some(Code::Internal),
        ..answered("d", "dan", Arm::Canary, 0.1)
    };
    all.answered(&slow);
    for other in [Arm::Champion, Arm::Named] {
        all.answered(&answered("e", "eve", other, 0.5));
    }
    all.told(&told("a", 1.0));
    all.told(&Told { label: None, score: Some(1.0), name: "thumbs_up".into(), ..told("b", 0.0) });
    let batch = seen(&all.take());
    assert_eq!(batch.step, 1);
    let counts = |b: &ArmBatch| (b.units, b.requests, b.errors, b.slow);
    assert_eq!((counts(&batch.canary), counts(&batch.control)), ((2, 2, 1, 1), (1, 2, 0, 0)));
    let brier = batch.canary.metrics["brier"];
    assert!(brier.n == 1 && (brier.mean - 0.04).abs() < 1e-12, "{brier:?}");
    assert_eq!(batch.canary.metrics["latency_ms"].n, 2);
    assert_eq!(batch.control.metrics["thumbs_up"], Moments { n: 1, mean: 1.0, squares: 0.0 });
    assert!(all.take().is_empty(), "it is told once");
}

#[test]
fn a_label_may_come_first_and_a_unit_gives_one_value() {
    let mut all = collector(&["wrong"]);
    all.told(&told("a", 0.0));
    all.answered(&answered("a", "ann", Arm::Canary, 0.8));
    all.answered(&answered("b", "ann", Arm::Canary, 0.8));
    all.told(&told("b", 1.0));
    all.told(&told("a", 1.0));
    assert_eq!(seen(&all.take()).canary.metrics["wrong"], Moments { n: 1, mean: 1.0, squares: 0.0 });
    // What comes later of what was answered before counts for the step of the answer.
    all.answered(&answered("c", "carl", Arm::Control, 0.2));
    let _ = all.take();
    all.told(&Told { tenant: "other".into(), ..told("c", 0.0) });
    assert!(all.take().is_empty(), "another's answer");
    all.told(&told("c", 0.0));
    assert_eq!(seen(&all.take()).control.metrics["wrong"].n, 1);
}

#[test]
fn a_shadow_is_counted_apart_and_what_nobody_watches_is_forgotten() {
    let mut all = collector(&["wrong"]);
    all.answered(&Answered { took: Duration::from_secs(1), ..answered("a", "ann", Arm::Shadow, 0.8) });
    all.compared("2", true);
    all.compared("2", false);
    all.dropped("2");
    all.compared("3", true);
    let taken = all.take();
    let wanted = ShadowBatch { compared: 2, agreed: 1, requests: 1, errors: 0, slow: 1, dropped: 1 };
    assert_eq!(taken, [("2".to_owned(), Input::Shadowed(wanted))]);
    all.give_back(taken.clone());
    assert_eq!(all.take(), taken);
    all.watch(&[]);
    all.answered(&answered("a", "ann", Arm::Canary, 0.8));
    assert!(all.is_idle() && all.take().is_empty());
}

proptest! {
    #[test]
    fn whatever_is_given_back_comes_again(
        answers in proptest::collection::vec((0_u8..20, any::<bool>(), 0.0_f64..1.0, any::<bool>()), 1..60),
        often in 1_usize..5,
    ) {
        let (mut once, mut again) = (collector(&["brier", "error"]), collector(&["brier", "error"]));
        for (n, (entity, canary, chance, labelled)) in answers.iter().enumerate() {
            let arm = if *canary { Arm::Canary } else { Arm::Control };
            for all in [&mut once, &mut again] {
                all.answered(&answered(&n.to_string(), &entity.to_string(), arm, *chance));
                if *labelled {
                    all.told(&told(&n.to_string(), 1.0));
                }
            }
            if n % often == 0 {
                let taken = again.take();
                again.give_back(taken);
            }
        }
        let (a, b) = (seen(&once.take()), seen(&again.take()));
        for (a, b) in [(a.canary, b.canary), (a.control, b.control)] {
            prop_assert_eq!((a.units, a.requests), (b.units, b.requests));
            for (name, x) in &a.metrics {
                let y = b.metrics[name];
                prop_assert!(x.n == y.n && (x.mean - y.mean).abs() < 1e-9 && (x.squares - y.squares).abs() < 1e-9);
            }
        }
    }
}
