//! A model that was trained is asked: about every row of a table, and about what a request says only in part.

use contract::{Clock as _, SystemClock};
use serde_json::{Value as Json, json};

use crate::models::{INFER, Made, asked};
use crate::server::eventually;

#[test]
fn every_row_of_a_table_is_answered_as_whoever_serves_would() {
    let Some(made) = Made::new() else { return };
    let (fine, said) = made.said(&["run", "scored"]);
    assert!(!fine && said.contains("lateness"), "no version is there yet: {said}");
    made.done(&["run", "good"]);
    let said = made.done(&["run", "scored"]);
    assert!(said.contains("by version 1"), "{said}");
    let rows = made.json(&["data", "read", "scored", "--limit", "5000"]);
    let rows = rows["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3_000);
    let mut names: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["at", "label", "late", "probabilities_0", "probabilities_1"]);
    let file = made.folder.path().join("rows.csv");
    let asked = made.json(&["predict", "late", "--file", file.to_str().unwrap()]);
    let file = std::fs::read_to_string(file).unwrap();
    let mut expected: std::collections::HashMap<String, &Json> = std::collections::HashMap::new();
    for (line, answer) in file.lines().skip(1).zip(asked["predictions"].as_array().unwrap()) {
        expected.insert(line.split(',').next().unwrap().to_owned(), answer);
    }
    for row in rows {
        let answer = expected[row["at"].as_str().unwrap()];
        assert_eq!(row["label"], answer["label"], "{row} {answer}");
        for (at, name) in ["probabilities_0", "probabilities_1"].into_iter().enumerate() {
            let (own, other) = (row[name].as_f64().unwrap(), answer["probabilities"][at].as_f64().unwrap());
            assert!((own - other).abs() < 1e-6, "{row} {answer}");
        }
    }
    let lineage = made.done(&["lineage", "scored", "--up"]);
    assert!(lineage.contains("lateness") && lineage.contains("model.onnx"), "{lineage}");
    let (fine, said) = made.said(&["run", "wrong"]);
    assert!(!fine && said.contains("has no output `odds`: it gives"), "{said}");
}

#[test]
fn what_a_request_leaves_out_is_looked_up_by_the_keys_that_it_says() {
    let Some(made) = Made::new() else { return };
    made.done(&["run", "good"]);
    let folder = made.folder.path();
    let written = std::fs::read_to_string(folder.join("forebay.yaml")).unwrap();
    let with = written
        .replacen(
            "late: {registry: lateness}",
            "late: {registry: lateness, features: {planes: {keys: {plane: tail}}}}",
            1,
        )
        .replacen("datasets: {table: {}}", "datasets: {table: {}, planes: {}}", 1)
        + "features:\n  views:\n    planes: {dataset: planes, keys: [plane], event_time: seen, ttl: 30d, features: [carrier, noise]}\n";
    std::fs::write(folder.join("forebay.yaml"), with).unwrap();
    let now = SystemClock::default().wall().0 / 1_000;
    let seen = |ago: i64| iso(now - ago);
    let planes = format!(
        "plane,seen,carrier,noise\nN1,{},UA,0.5\nN1,{},AA,0.1\nN2,{},B6,0.2\n",
        seen(3_600),
        seen(7_200),
        seen(60 * 86_400)
    );
    std::fs::write(folder.join("planes.csv"), planes).unwrap();
    made.done(&["check"]);
    made.done(&["data", "add", "planes", folder.join("planes.csv").to_str().unwrap()]);
    let server = made.serve();
    let records = |row: Json| {
        let (status, body) = asked(&server, "/invocations?model=late", &json!({"dataframe_records": [row]}));
        (status, body)
    };
    let whole = json!({"hour": 23, "carrier": "UA", "noise": 0.5});
    eventually("the features are online", || {
        records(json!({"hour": 23, "tail": "N1"})).0 == 200
            && records(json!({"hour": 23, "tail": "N1"})) == records(whole.clone())
    });
    // What is said is not looked up, and who is unknown or too old has nothing, as in the table that it learnt from.
    let nothing = records(json!({"hour": 23, "carrier": "", "noise": null}));
    assert_eq!(nothing.0, 200, "{nothing:?}");
    assert_ne!(nothing, records(whole.clone()));
    for (row, like) in [
        (json!({"hour": 23, "tail": "N9"}), &nothing),
        (json!({"hour": 23, "tail": "N2"}), &nothing),
        (json!({"hour": 23, "tail": "N9", "carrier": "UA", "noise": 0.5}), &records(whole.clone())),
        (json!({"hour": 23, "tail": "N2", "carrier": "UA", "noise": 0.5}), &records(whole)),
        (
            json!({"hour": 23, "tail": "N1", "noise": 0.5}),
            &records(json!({"hour": 23, "carrier": "UA", "noise": 0.5})),
        ),
    ] {
        assert_eq!(&records(row.clone()), like, "{row}");
    }
    let (status, refused) = records(json!({"hour": 23}));
    assert_eq!(status, 400, "{refused}");
    let said = refused.to_string();
    assert!(said.contains("the column `tail` is missing") && said.contains("`planes`"), "{said}");
    assert_eq!(records(json!({"hour": 23, "tail": 7})), nothing, "a key that no plane has");

    // The same over the other ways to ask.
    let infer = |body: &str| {
        let (status, _, body) = server.ask("POST", "/v2/models/late/infer", &[], body);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Json>(&body).unwrap()["outputs"].clone()
    };
    let short = r#"{"inputs": [{"name": "tail", "shape": [1], "datatype": "BYTES", "data": ["N1"]},
        {"name": "hour", "shape": [1, 1], "datatype": "FP64", "data": [23]}]}"#;
    assert_eq!(infer(short), infer(INFER));
    let lists = |inputs: Json| asked(&server, "/invocations?model=late", &json!({"inputs": inputs}));
    assert_eq!(
        lists(json!({"hour": [[23], [4]], "tail": ["N1", "N9"]})),
        lists(json!({"hour": [[23], [4]], "carrier": [["UA"], [""]], "noise": [[0.5], ["NaN"]]}))
    );
    let (_, _, metrics) = server.ask("GET", "/metrics", &[], "");
    for result in ["found", "missing"] {
        let line = format!("forebay_prediction_features_total{{model=\"late\",result=\"{result}\"}}");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

/// An instant in seconds since the epoch, in ISO 8601.
fn iso(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let contract::Date { year, month, day } = contract::Date::of_day(day);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[test]
fn an_answer_is_explained_with_what_was_true_and_where_its_version_came_from() {
    let Some(made) = Made::new() else { return };
    let folder = made.folder.path().to_owned();
    let written = std::fs::read_to_string(folder.join("forebay.yaml")).unwrap();
    std::fs::write(folder.join("forebay.yaml"), written + "capture: {late: {every: 100ms}}\n").unwrap();
    made.done(&["run", "good"]);
    let explain = |id: &str, json: bool| {
        let mut command = crate::server::forebay(&folder);
        let command = command.args(["explain", id]);
        let out = if json { command.arg("--json") } else { command }.output().unwrap();
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr),
        )
    };
    let server = made.serve();
    let records = json!({"dataframe_records": [{"hour": 23, "carrier": "UA", "noise": 0.5}, {"hour": 4, "carrier": "AA", "noise": 0.1}]});
    let mut head = String::new();
    eventually("the model answers", || {
        let headers = [("content-type", "application/json"), ("forebay-entity", "UA1")];
        let (status, own, said) =
            server.ask("POST", "/invocations?model=late", &headers, &records.to_string());
        assert!(matches!(status, 200 | 503), "a model that is to come is not unknown: {status} {said}");
        head = own;
        status == 200
    });
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
    let told = json!([{"id": id, "row": 0, "label": 1}, {"id": id, "row": 1, "key": "judge", "score": 0.5, "comment": "unsure"}]);
    assert_eq!(server.ask("POST", "/v1/feedback", &[], &told.to_string()).0, 202);
    crate::watching::until("it is kept, and what was true of it", || {
        let (fine, said) = explain(&id, false);
        fine && said.contains("it was 1") && said.contains("judge 0.5")
    });
    let (_, said) = explain(&id, false);
    for part in [
        &format!("{id}  answered"),
        "model late, version 1, as champion",
        "about UA1",
        "row 0: carrier UA, hour 23",
        "row 1: carrier AA, hour 4",
        "unsure",
        "version 1 of lateness",
        "learnt from table@",
        "gate: ",
        "which verifies",
        "`champion` from",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let (_, found) = explain(&id, true);
    let found: Json = serde_json::from_str(&found).unwrap();
    assert_eq!(
        (&found["version"]["version"], &found["version"]["decision_verified"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        (found["rows"].as_array().unwrap().len(), found["feedback"].as_array().unwrap().len()),
        (2, 2)
    );
    let other = if id.ends_with('0') { '1' } else { '0' };
    let (fine, said) = explain(&format!("{}{other}", &id[..id.len() - 1]), false);
    assert!(!fine && said.contains("there is no record of"), "{said}");
}
