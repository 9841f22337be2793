//! What tracking must do on every database: experiments, runs, what is logged of them, and the searches.

use contract::TenantId;
use futures_util::future::join_all;
use store::tracking::{
    Dataset, DatasetInput, Logged, Metric, NewTrackedRun, Pair, Run, RunUpdate, Search, Stage,
    TenantTracking, Tracking, View, Why,
};

use super::Subject;

fn gold() -> TenantId {
    TenantId::from("gold")
}

fn pair(key: &str, value: &str) -> Pair {
    (key.to_owned(), value.to_owned())
}

/// Why it was refused.
fn why<T: std::fmt::Debug>(result: Result<T, store::Error>) -> (Why, String) {
    match result.unwrap_err() {
        store::Error::Refused(r) => (r.why, r.message),
        other => panic!("{other}"),
    }
}

fn id(n: u32) -> String {
    format!("{n:032x}")
}

/// Makes run `n` of an experiment, begun at `n`.
pub(super) async fn begin(t: TenantTracking<'_>, experiment: i64, n: u32) -> Run {
    let new = NewTrackedRun {
        id: id(n),
        experiment,
        name: format!("run {n}"),
        user: "ann".into(),
        started_at: i64::from(n),
        tags: vec![pair("kind", "test")],
    };
    t.create_run(&new, 100).await.unwrap()
}

fn metrics(all: &[(&str, f64, i64, i64)]) -> Logged {
    let metrics = all.iter().map(|(k, v, at, step)| Metric::new(*k, *v, *at, *step)).collect();
    Logged { metrics, ..Logged::default() }
}

fn search(filter: &str, order: &[&str]) -> Search {
    Search {
        filter: filter.into(),
        order: order.iter().map(|&o| o.into()).collect(),
        most: 100,
        ..Search::default()
    }
}

/// The numbers of the runs that are found, in their order.
async fn found(t: TenantTracking<'_>, filter: &str, order: &[&str]) -> Vec<u32> {
    let page = t.search_runs(&[0], &search(filter, order)).await.unwrap();
    page.items.iter().map(|r| u32::from_str_radix(&r.info.id, 16).unwrap()).collect()
}

pub async fn an_experiment_is_made_renamed_deleted_and_restored_with_its_runs(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    assert_eq!(t.experiment(0, 5).await.unwrap().name, "Default");
    let e = t.create_experiment("a", None, &[pair("k", "v")], 10).await.unwrap();
    let made = t.experiment(e, 10).await.unwrap();
    assert_eq!(
        (e, made.location.as_str(), made.tags.clone()),
        (1, "mlflow-artifacts:/1", vec![pair("k", "v")])
    );
    assert_eq!((made.created_at, made.updated_at, made.stage), (10, 10, Stage::Active));
    assert_eq!(why(t.create_experiment("a", None, &[], 11).await).0, Why::Exists);
    begin(t, e, 1).await;
    t.stage_experiment(e, Stage::Deleted, 20).await.unwrap();
    assert_eq!(t.run(&id(1)).await.unwrap().info.stage, Stage::Deleted);
    assert_eq!(
        why(t.create_experiment("a", None, &[], 21).await).0,
        Why::Exists,
        "a deleted one keeps its name"
    );
    assert_eq!(why(t.stage_experiment(e, Stage::Deleted, 22).await).0, Why::Missing);
    assert_eq!(why(t.rename_experiment(e, "b", 22).await).0, Why::State);
    assert_eq!(why(t.tag_experiment(e, "k", Some("w"), 22).await).0, Why::Invalid);
    t.stage_experiment(e, Stage::Active, 23).await.unwrap();
    assert_eq!(t.run(&id(1)).await.unwrap().info.stage, Stage::Active);
    t.rename_experiment(e, "b", 24).await.unwrap();
    assert_eq!(why(t.rename_experiment(e, "Default", 25).await).0, Why::Exists);
    t.tag_experiment(e, "k", Some("w"), 26).await.unwrap();
    t.tag_experiment(e, "l", Some(""), 26).await.unwrap();
    let named = t.experiment_by_name("b", 27).await.unwrap().unwrap();
    assert_eq!((named.tags, named.updated_at), (vec![pair("k", "w"), pair("l", "")], 24));
    t.tag_experiment(e, "k", None, 28).await.unwrap();
    assert_eq!(why(t.tag_experiment(e, "k", None, 28).await).0, Why::Missing);
    assert_eq!(t.experiment_by_name("a", 29).await.unwrap(), None);
    assert_eq!(why(t.experiment(7, 30).await), (Why::Missing, "No Experiment with id=7 exists".into()));
}

pub async fn a_tenant_has_experiments_and_runs_of_its_own(on: &Subject) {
    let all = on.tracking();
    let (gold, other) = (gold(), TenantId::from("other"));
    let (t, o) = (all.of(&gold), all.of(&other));
    assert_eq!(t.create_experiment("same", None, &[], 1).await.unwrap(), 1);
    assert_eq!(o.create_experiment("same", None, &[], 1).await.unwrap(), 1);
    begin(t, 1, 1).await;
    assert_eq!(why(o.run(&id(1)).await).0, Why::Missing);
    assert_eq!(why(o.log(&id(1), metrics(&[("m", 1.0, 1, 1)])).await).0, Why::Missing);
    assert_eq!(why(o.stage_run(&id(1), Stage::Deleted, 2).await).0, Why::Missing);
    let everything = Search { view: View::All, ..search("", &[]) };
    assert!(o.search_runs(&[0, 1, 2], &everything).await.unwrap().items.is_empty());
    assert_eq!(t.search_runs(&[0, 1, 2], &everything).await.unwrap().items.len(), 1);
    assert!(t.run(&id(1)).await.unwrap().metrics.is_empty());
}

pub async fn a_run_has_what_was_logged_of_it_and_is_refused_when_deleted(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    let made = begin(t, 0, 7).await;
    assert_eq!(made.info.location, format!("mlflow-artifacts:/0/{}/artifacts", id(7)));
    assert_eq!(
        (made.info.status.as_str(), made.info.started_at, made.info.ended_at),
        ("RUNNING", Some(7), None)
    );
    assert_eq!(made.tags, [pair("kind", "test"), pair("mlflow.runName", "run 7")]);
    let logged = Logged {
        metrics: vec![Metric::new("m", 0.1 + 0.2, 5, 1)],
        params: vec![pair("p", "1"), pair("q", "ü\"'")],
        tags: vec![pair("t", "x"), pair("t", "y"), pair("mlflow.runName", "other")],
    };
    t.log(&id(7), logged).await.unwrap();
    let run = t.run(&id(7)).await.unwrap();
    assert_eq!(run.metrics, [Metric::new("m", 0.1 + 0.2, 5, 1)], "to the last bit");
    assert_eq!(run.params, [pair("p", "1"), pair("q", "ü\"'")]);
    assert_eq!((run.info.name.as_str(), run.tags.len()), ("other", 3));
    let again = |v: &str| Logged { params: vec![pair("p", v)], ..metrics(&[("n", 1.0, 1, 1)]) };
    t.log(&id(7), again("1")).await.unwrap();
    let (sort, says) = why(t.log(&id(7), again("2")).await);
    assert_eq!(sort, Why::Invalid);
    assert!(says.contains("[{'key': 'p', 'old_value': '1', 'new_value': '2'}]"), "{says}");
    assert!(why(t.log_param(&id(7), pair("p", "3")).await).1.contains("Attempted logging new value '3'."));
    t.untag_run(&id(7), "t").await.unwrap();
    assert_eq!(why(t.untag_run(&id(7), "t").await).0, Why::Missing);
    let update =
        RunUpdate { status: Some("FINISHED".into()), ended_at: Some(99), name: Some("third".into()) };
    let info = t.update_run(&id(7), &update).await.unwrap();
    assert_eq!((info.status.as_str(), info.ended_at, info.name.as_str()), ("FINISHED", Some(99), "third"));
    assert!(t.run(&id(7)).await.unwrap().tags.contains(&pair("mlflow.runName", "third")));
    t.stage_run(&id(7), Stage::Deleted, 100).await.unwrap();
    let late = || metrics(&[("late", 1.0, 1, 1)]);
    for refused in [
        t.log(&id(7), again("1")).await,
        t.log(&id(7), late()).await,
        t.log(&id(7), Logged { tags: vec![pair("late", "x")], ..late() }).await,
        t.untag_run(&id(7), "kind").await,
    ] {
        assert_eq!(why(refused).0, Why::Invalid);
    }
    assert_eq!(why(t.update_run(&id(7), &update).await).0, Why::Invalid);
    t.stage_run(&id(7), Stage::Active, 101).await.unwrap();
    t.log(&id(7), again("1")).await.unwrap();
    let run = t.run(&id(7)).await.unwrap();
    assert!(run.metrics.iter().all(|m| m.key != "late") && run.tags.iter().all(|(k, _)| k != "late"));
    t.log(&id(7), late()).await.unwrap();
}

pub async fn the_newest_value_of_a_metric_is_the_one_of_the_last_step_and_each_is_kept_once(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    begin(t, 0, 1).await;
    t.log(&id(1), metrics(&[("m", 3.0, 10, 2), ("m", 1.0, 99, 1), ("m", 2.0, 10, 2), ("m", 3.0, 10, 2)]))
        .await
        .unwrap();
    t.log(&id(1), metrics(&[("m", 7.0, 98, 1), ("m", 3.0, 10, 2)])).await.unwrap();
    t.log(
        &id(1),
        metrics(&[("nan", f64::NAN, 1, 0), ("up", f64::INFINITY, 1, 0), ("down", f64::NEG_INFINITY, 1, 0)]),
    )
    .await
    .unwrap();
    let run = t.run(&id(1)).await.unwrap();
    let newest: Vec<(&str, f64)> = run.metrics.iter().map(|m| (m.key.as_str(), m.value)).collect();
    assert_eq!(newest[0], ("down", f64::MIN));
    assert_eq!(newest[1], ("m", 3.0));
    assert!(newest[2].0 == "nan" && newest[2].1.is_nan());
    assert_eq!(newest[3], ("up", f64::MAX));
    let values = |page: store::tracking::Page<Metric>| page.items.iter().map(|m| m.value).collect::<Vec<_>>();
    assert_eq!(values(t.history(&id(1), "m", 0, None).await.unwrap()), [2.0, 3.0, 7.0, 1.0]);
    let page = t.history(&id(1), "m", 1, Some(2)).await.unwrap();
    assert_eq!((page.next, values(page)), (Some(3), vec![3.0, 7.0]));
    let last = t.history(&id(1), "m", 3, Some(2)).await.unwrap();
    assert_eq!((last.next, values(last)), (None, vec![1.0]));
    assert!(t.history(&id(1), "other", 0, None).await.unwrap().items.is_empty());
    assert!(t.history(&id(9), "m", 0, None).await.unwrap().items.is_empty());
}

pub async fn histories_of_several_runs_are_thinned_and_keep_their_ends(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    for n in [1, 2] {
        begin(t, 0, n).await;
        let rows: Vec<(&str, f64, i64, i64)> = (0..200).map(|s| ("m", f64::from(n), s, s)).collect();
        t.log(&id(n), metrics(&rows)).await.unwrap();
    }
    let some = t.histories(&[id(1), id(2)], "m", 20, None).await.unwrap();
    let steps: Vec<i64> = some.iter().filter(|m| m.run == id(1)).map(|m| m.metric.step).collect();
    assert_eq!((steps.first(), steps.last()), (Some(&0), Some(&199)));
    assert!(steps.len() <= 21 && some.len() == 2 * steps.len());
    let part = t.histories(&[id(2)], "m", 1_000, Some((5, 9))).await.unwrap();
    assert_eq!(part.iter().map(|m| m.metric.step).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
}

pub async fn what_is_logged_at_once_is_all_there(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    for n in 0..4 {
        begin(t, 0, n).await;
    }
    let calls = (0..200_u32).map(|n| {
        let run = id(n % 4);
        async move {
            let logged = Logged {
                params: vec![pair(&format!("p{}", n % 8), "same")],
                tags: vec![pair(&format!("t{n}"), "x")],
                ..metrics(&[("m", f64::from(n), i64::from(n), i64::from(n)), ("all", 1.0, i64::from(n), 0)])
            };
            t.log(&run, logged).await.unwrap();
        }
    });
    // Some of those who come leave again in the middle; what they wanted may be there or not, and nobody else is harmed.
    let dropped = (0..50_u32).map(|n| {
        let run = id(n % 4);
        let within = std::time::Duration::from_micros(u64::from(n) * 37);
        async move {
            let _ =
                tokio::time::timeout(within, t.log(&run, metrics(&[("maybe", 1.0, i64::from(n), 0)]))).await;
        }
    });
    futures_util::future::join(join_all(calls), join_all(dropped)).await;
    for n in 0..4 {
        let run = t.run(&id(n)).await.unwrap();
        assert_eq!(t.history(&id(n), "m", 0, None).await.unwrap().items.len(), 50);
        let newest = run.metrics.iter().find(|m| m.key == "m").unwrap();
        assert_eq!(newest.step, i64::from(196 + n));
        assert_eq!((run.params.len(), run.tags.len()), (2, 52));
    }
}

pub async fn one_who_is_refused_takes_nobody_with_him(on: &Subject) {
    let all: Tracking = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    begin(t, 0, 1).await;
    begin(t, 0, 2).await;
    t.stage_run(&id(2), Stage::Deleted, 1).await.unwrap();
    t.log_param(&id(1), pair("p", "1")).await.unwrap();
    let one = |run: u32, p: &'static str, n: i64| async move {
        let logged = Logged { params: vec![pair("p", p)], ..metrics(&[("m", 1.0, n, n)]) };
        t.log(&id(run), logged).await.is_ok()
    };
    let done =
        join_all([one(1, "1", 1), one(1, "2", 2), one(2, "1", 3), one(3, "1", 4), one(1, "1", 5)]).await;
    assert_eq!(done, [true, false, false, false, true]);
    let steps: Vec<i64> =
        t.history(&id(1), "m", 0, None).await.unwrap().items.iter().map(|m| m.step).collect();
    assert_eq!(steps, [1, 5], "of one who is refused nothing is kept");
}

/// Five runs that differ in everything that is searched.
async fn five(t: TenantTracking<'_>) {
    for n in 1..=5_u32 {
        begin(t, 0, n).await;
        let mut logged = Logged {
            params: vec![
                pair("lr", &format!("0.{n}")),
                pair("name", if n % 2 == 0 { "Even" } else { "odd" }),
            ],
            tags: vec![pair("a b", &format!("x{n}"))],
            ..metrics(&[("acc", f64::from(n) / 10.0, 1, 1)])
        };
        if n == 3 {
            logged.metrics[0].value = f64::NAN;
        }
        if n == 5 {
            logged.metrics.clear();
            logged.tags.push(pair("only", "5"));
        }
        t.log(&id(n), logged).await.unwrap();
    }
    let dataset = Dataset {
        name: "d".into(),
        digest: "x".into(),
        source_type: "t".into(),
        source: "s".into(),
        ..Dataset::default()
    };
    let input = DatasetInput { dataset, tags: vec![pair("mlflow.data.context", "train")] };
    t.log_inputs(&id(2), &[input.clone(), input], &["m-1".into()]).await.unwrap();
    t.log_outputs(&id(2), &[("m-2".into(), 4)]).await.unwrap();
}

pub async fn a_filter_finds_the_runs_that_it_says(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    five(t).await;
    for (filter, runs) in [
        ("", &[5, 4, 3, 2, 1][..]),
        ("metrics.acc > 0.15", &[4, 2]),
        ("metrics.acc >= 0.2 AND metrics.acc < 0.4", &[2]),
        ("metrics.acc != 0.1", &[4, 3, 2]),
        ("params.lr = '0.3'", &[3]),
        ("params.name LIKE 'E%'", &[4, 2]),
        ("params.name LIKE 'e%'", &[]),
        ("params.name ILIKE 'e%'", &[4, 2]),
        ("params.name LIKE '_dd'", &[5, 3, 1]),
        ("params.name LIKE '*'", &[]),
        ("params.name ILIKE '\\o%'", &[]),
        ("params.name LIKE '\\odd'", &[]),
        ("tags.`a b` = 'x1'", &[1]),
        ("tags.\"a b\" != 'x1'", &[5, 4, 3, 2]),
        ("tags.only IS NULL AND metrics.acc > 0", &[4, 2, 1]),
        ("tags.only IS NOT NULL", &[5]),
        ("attributes.run_name = 'run 4'", &[4]),
        ("run_name ILIKE 'RUN _'", &[5, 4, 3, 2, 1]),
        ("attributes.start_time > 3", &[5, 4]),
        ("attributes.status = 'RUNNING' AND user_id = 'ann' AND params.lr = '0.1'", &[1]),
        ("dataset.name = 'd' AND dataset.context = 'train'", &[2]),
        ("dataset.digest != 'x'", &[]),
        ("params.lr = '0.1'' OR 1=1 --'", &[]),
    ] {
        assert_eq!(found(t, filter, &[]).await, runs, "{filter}");
    }
    let list = format!("run_id IN ('{}', '{}')", id(1), id(3));
    assert_eq!(found(t, &list, &[]).await, [3, 1]);
    assert_eq!(found(t, &list.replace("IN", "NOT IN"), &[]).await, [5, 4, 2]);
    let run = t.run(&id(2)).await.unwrap();
    assert_eq!(
        (run.datasets.len(), run.model_inputs, run.model_outputs),
        (1, vec!["m-1".into()], vec![("m-2".into(), 4)])
    );
    assert_eq!(why(t.search_runs(&[0], &search("metrics.acc = 'x'", &[])).await).0, Why::Invalid);
}

pub async fn an_order_puts_what_has_no_value_last_and_pages_follow_each_other(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    five(t).await;
    for (order, runs) in [
        (&["metrics.acc"][..], [1, 2, 4, 3, 5]),
        (&["metrics.acc DESC"], [4, 2, 1, 3, 5]),
        (&["params.name", "attributes.start_time"], [2, 4, 1, 3, 5]),
        (&["start_time ASC"], [1, 2, 3, 4, 5]),
        (&["tags.only", "params.lr desc"], [5, 4, 3, 2, 1]),
    ] {
        assert_eq!(found(t, "", order).await, runs, "{order:?}");
    }
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(at) = from {
        let page =
            t.search_runs(&[0], &Search { from: at, most: 2, ..search("", &["metrics.acc"]) }).await.unwrap();
        seen.extend(page.items.iter().map(|r| r.info.id.clone()));
        from = page.next;
    }
    assert_eq!(seen, [id(1), id(2), id(4), id(3), id(5)]);
    t.stage_run(&id(4), Stage::Deleted, 1).await.unwrap();
    let view = |view| Search { view, ..search("", &[]) };
    for (v, count) in [(View::Active, 4), (View::Deleted, 1), (View::All, 5)] {
        assert_eq!(t.search_runs(&[0], &view(v)).await.unwrap().items.len(), count);
    }
    let twice = t.search_runs(&[0], &search("", &["metrics.a", "metrics.a DESC"])).await;
    assert!(why(twice).1.starts_with("`order_by` contains duplicate fields"));
}

pub async fn experiments_are_searched_by_name_tag_and_time(on: &Subject) {
    let all = on.tracking();
    let gold = gold();
    let t = all.of(&gold);
    t.experiment(0, 1).await.unwrap();
    for n in 1..=3 {
        t.create_experiment(&format!("e{n}"), None, &[pair("n", &n.to_string())], 10 * n).await.unwrap();
    }
    t.stage_experiment(2, Stage::Deleted, 50).await.unwrap();
    let names = |filter: &'static str, order: &'static [&'static str], view| async move {
        let wanted = Search { view, ..search(filter, order) };
        let page = t.search_experiments(&wanted, 60).await.unwrap();
        page.items.into_iter().map(|e| e.name).collect::<Vec<_>>()
    };
    assert_eq!(names("", &[], View::Active).await, ["e3", "e1", "Default"]);
    assert_eq!(names("", &["name DESC"], View::All).await, ["e3", "e2", "e1", "Default"]);
    assert_eq!(names("name LIKE 'e%' AND tags.n = '1'", &[], View::Active).await, ["e1"]);
    assert_eq!(names("tags.n IS NULL", &[], View::Active).await, ["Default"]);
    assert_eq!(names("creation_time >= 20", &[], View::All).await, ["e3", "e2"]);
    assert_eq!(names("experiment_id IN ('1', '3')", &["experiment_id"], View::All).await, ["e1", "e3"]);
    assert_eq!(names("", &[], View::Deleted).await, ["e2"]);
}
