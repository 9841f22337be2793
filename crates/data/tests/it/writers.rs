//! Several writers at once.

use data::{At, Error};

use crate::support::{Bench, append, overwrite, sorted};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_once_all_arrive_and_every_version_has_the_name_of_its_rows() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    let sources: Vec<_> = (0..6).map(|n| bench.source(&format!("{n}.csv"), format!("n\n{n}\n"))).collect();
    let adding = sources.iter().map(|source| append(&x, source));
    let added = futures_util::future::join_all(adding).await;
    let mut versions: Vec<u64> = added.iter().map(|a| a.as_ref().unwrap().version).collect();
    versions.sort();
    assert_eq!(versions, [0, 1, 2, 3, 4, 5]);
    assert_eq!(sorted(&x, &At::Newest).await.len(), 6);
    let whole =
        overwrite(&bench.dataset("y"), &bench.source("y.csv", "n\n5\n4\n3\n2\n1\n0\n")).await.unwrap();
    assert_eq!(x.log(None).await.unwrap()[0].name.as_ref(), Some(&whole.name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_overwrites_at_once_those_that_were_overtaken_are_refused() {
    let bench = Bench::new();
    let x = bench.dataset("x");
    append(&x, &bench.source("first.csv", "n\n100\n")).await.unwrap();
    let sources: Vec<_> = (0..4).map(|n| bench.source(&format!("{n}.csv"), format!("n\n{n}\n"))).collect();
    let done = futures_util::future::join_all(sources.iter().map(|source| overwrite(&x, source))).await;
    let newest = x.show(&At::Newest).await.unwrap();
    let committed = done.iter().filter(|d| d.is_ok()).count() as u64;
    assert_eq!(newest.version.version, committed, "one version for each that was told so");
    assert_eq!(newest.rows, 1);
    for error in done.into_iter().filter_map(Result::err) {
        assert!(matches!(error, Error::Conflict { base: 0.., .. }), "{error}");
    }
    assert_eq!(bench.data_files("x") as u64, committed + 1, "who was refused leaves no files");
}
