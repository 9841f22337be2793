//! What holds for any data.

use data::{At, Source};
use proptest::prelude::*;

use crate::support::{Bench, append, overwrite, sorted};

type Row = (i64, Option<String>, Option<bool>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let text = proptest::option::of("[a-z ,\"\n]{1,6}[a-z]");
    proptest::collection::vec((any::<i64>(), text, any::<Option<bool>>()), 1..20)
}

fn csv(rows: &[Row]) -> String {
    let mut text = String::from("n,text,flag\n");
    for (n, words, flag) in rows {
        let words = words.as_ref().map(|w| format!("\"{}\"", w.replace('"', "\"\""))).unwrap_or_default();
        text.push_str(&format!("{n},{words},{}\n", flag.map(|f| f.to_string()).unwrap_or_default()));
    }
    text
}

fn json(rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<String> = rows
        .iter()
        .map(|(n, text, flag)| serde_json::json!({"n": n, "text": text, "flag": flag}).to_string())
        .collect();
    lines.sort();
    lines
}

fn declared(mut source: Source) -> Source {
    let types = [("n", "int"), ("text", "text"), ("flag", "bool")];
    source.types = types.into_iter().map(|(n, t)| (n.to_owned(), t.parse().unwrap())).collect();
    source
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_was_appended_is_read_back_at_every_version(parts in proptest::collection::vec(rows(), 1..4), shuffle in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let x = bench.dataset("x");
            let mut so_far: Vec<Row> = Vec::new();
            for (i, part) in parts.iter().enumerate() {
                let added = append(&x, &declared(bench.source("part.csv", csv(part)))).await.unwrap();
                so_far.extend(part.iter().cloned());
                assert_eq!((added.version, added.rows), (i as u64, so_far.len() as u64));
                // The same rows in another order, in one file, elsewhere: the same name.
                let mut other = so_far.clone();
                let mut state = shuffle;
                for j in (1..other.len()).rev() {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    other.swap(j, (state >> 33) as usize % (j + 1));
                }
                let y = overwrite(&bench.dataset("y"), &declared(bench.source("whole.csv", csv(&other)))).await.unwrap();
                assert_eq!(y.name, added.name);
            }
            let mut held = Vec::new();
            for (i, part) in parts.iter().enumerate() {
                held.extend(part.iter().cloned());
                assert_eq!(sorted(&x, &At::Version(i as u64)).await, json(&held));
            }
        });
    }
}
