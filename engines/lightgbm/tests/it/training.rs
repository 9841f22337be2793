//! Whole trainings with real trees.

use std::sync::Mutex;

use contract::SystemClock;
use models::onnx::{About, Found, adopt};
use models::train::{Error, Job, Model, Progress, TrainConfig, Trained, Unwatched, Watch, run};
use serde_json::{Value, json};

use crate::{frame, worker};

fn config(more: Value) -> TrainConfig {
    let mut all = json!({
        "gbdt": {"target": "late", "rounds": 60, "early_stopping": 10},
        "time": "at",
        "split": {"by": "time", "holdout": 0.2, "validation": 0.2},
        "seed": 7,
    });
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    let config = serde_json::from_value(all).unwrap();
    assert_eq!(models::train::problems(&config), Vec::new());
    config
}

async fn train(more: Value) -> Result<Trained, Error> {
    let job = Job { frame: frame(3000), config: config(more), about: About::default() };
    run(job, &worker(), &SystemClock::default(), &Unwatched).await
}

#[tokio::test]
async fn trees_learn_what_is_there_and_become_onnx() {
    let trained = train(json!({"permutation_importance": true})).await.unwrap();
    let report = &trained.report;
    assert_eq!(report.rows, [1920, 480, 600]);
    // What can be had at all of these rows is 0.88.
    assert!(report.holdout["auc"] > 0.82, "{:?}", report.holdout);
    assert!(report.rounds < 60, "it stopped when nothing became better: {}", report.rounds);
    assert_eq!(report.curve.len(), report.rounds as usize + 10);
    let by = |name: &str| report.importance.iter().find(|one| one.column == name).unwrap().clone();
    assert!(by("hour").permutation > by("distance").permutation && by("hour").gain > by("distance").gain);
    let adopted = adopt(&trained.onnx, &About::default()).unwrap();
    assert_eq!(adopted.found, Found::Onnx);
    let inputs: Vec<(&str, &str)> =
        adopted.inputs.iter().map(|port| (port.name.as_str(), port.kind.as_str())).collect();
    assert_eq!(inputs, [("hour", "double"), ("distance", "double"), ("carrier", "string")]);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let search =
        json!({"search": {"trials": 8, "prune": "median"}, "refit": true, "class_weights": "balanced"});
    let (one, other) = (train(search.clone()).await.unwrap(), train(search.clone()).await.unwrap());
    assert!(one.onnx == other.onnx && one.report == other.report);
    let mut another = search;
    another["seed"] = json!(8);
    assert!(train(another).await.unwrap().onnx != one.onnx);
}

#[tokio::test]
async fn one_thread_and_two_grow_the_same_trees() {
    use models::train::worker::{Worker, WorkerSettings};
    let mut files = Vec::new();
    for threads in [1, 2] {
        let worker = Worker::new(WorkerSettings { program: crate::PROGRAM.into(), memory: 2 << 30, threads });
        let job = Job { frame: frame(3000), config: config(json!({})), about: About::default() };
        files.push(run(job, &worker, &SystemClock::default(), &Unwatched).await.unwrap().onnx);
    }
    assert!(files[0] == files[1]);
}

#[tokio::test]
async fn a_search_keeps_the_best_and_gives_up_what_leads_nowhere() {
    for prune in ["median", "halving", "never"] {
        let trained = train(json!({"search": {"trials": 12, "prune": prune}})).await.unwrap();
        let trials = &trained.report.trials;
        assert_eq!(trials.len(), 12, "{prune}");
        assert_eq!(trials.iter().any(|trial| trial.pruned), prune != "never", "{prune}");
        let best =
            trials.iter().filter(|trial| !trial.pruned).filter_map(|trial| trial.value).fold(0.0, f64::max);
        assert_eq!(trained.report.validation, Some(best), "{prune}: the model is that of the best try");
    }
}

#[tokio::test]
async fn tries_are_judged_by_folds_that_go_forward_in_time() {
    let trained = train(json!({"folds": 3, "search": {"trials": 3}})).await.unwrap();
    assert!(trained.report.trials.iter().all(|trial| trial.value.is_some_and(|value| value > 0.7)));
}

#[tokio::test]
async fn words_can_be_predicted_and_numbers_too() {
    let carriers =
        train(json!({"gbdt": {"target": "carrier", "rounds": 5}, "metric": "accuracy"})).await.unwrap();
    let Model::Trees { forest, .. } = &carriers.model else { panic!() };
    assert_eq!(forest.base.len(), 5, "a score for each class");
    assert!(carriers.report.holdout.contains_key("log_loss"));
    let hours = train(json!({"gbdt": {"target": "hour", "rounds": 20}})).await.unwrap();
    assert!(hours.report.unlabelled > 100, "rows without an hour are left out");
    assert!(hours.report.holdout["rmse"] < 7.2, "{:?}", hours.report.holdout);
}

#[tokio::test]
async fn rounds_are_heard_of_as_they_come() {
    struct Ears(Mutex<Vec<Progress>>);
    impl Watch for Ears {
        fn progress(&self, progress: Progress) {
            self.0.lock().unwrap().push(progress);
        }
    }
    let ears = Ears(Mutex::default());
    let job = Job { frame: frame(3000), config: config(json!({})), about: About::default() };
    let trained = run(job, &worker(), &SystemClock::default(), &ears).await.unwrap();
    let heard = ears.0.into_inner().unwrap();
    assert_eq!(heard[0], Progress::Split { rows: [1920, 480, 600] });
    let rounds: Vec<f64> = heard
        .iter()
        .filter_map(|progress| if let Progress::Round { value, .. } = progress { *value } else { None })
        .collect();
    assert_eq!(rounds, trained.report.curve);
}
