//! What an acknowledgement and a commit cost. Run by hand: `cargo nextest run -p forebay-store --run-ignored only
//! --no-capture`, with optimisation for figures that mean something.

use contract::{Clock, SystemClock};

use crate::fixtures::{admitted, id, open, record};

#[tokio::test]
#[ignore = "measures"]
async fn cost_of_an_acknowledgement_and_of_a_commit() {
    const N: u32 = 20_000;
    let project = tempfile::tempdir().unwrap();
    let store = open(project.path()).await;
    let clock = SystemClock::default();
    let records: Vec<_> = (0..u128::from(N)).map(record).collect();
    let begin = clock.now();
    for r in &records {
        store.ledger.settled(r).unwrap();
    }
    println!("settled: {:?} each", clock.now().since(begin) / N);
    let begin = clock.now();
    for n in 0..u128::from(N) {
        store.ledger.admitted(&admitted(n)).unwrap();
    }
    println!("admitted: {:?} each", clock.now().since(begin) / N);
    let bytes = store.ledger.health().lag_bytes;
    let begin = clock.now();
    store.ledger.close();
    store.background().await.unwrap();
    let took = clock.now().since(begin);
    println!("to the database: {} records of {} journal bytes in {took:?}", 2 * N, bytes);
    assert!(store.reader.get(id(u128::from(N) - 1)).await.unwrap().is_some());
}
