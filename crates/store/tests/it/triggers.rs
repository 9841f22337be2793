//! What every store of triggers must do.

use std::sync::Arc;

use store::{SqliteTriggers, StoredTriggers, TriggerStore};

use crate::fixtures::database;

async fn keeps_one_text_for_each_pipeline(store: &dyn TriggerStore) {
    assert_eq!(store.get("a").await.unwrap(), None);
    assert!(!store.set("a", 1, "never").await.unwrap());
    assert!(store.set("a", 0, "one").await.unwrap());
    assert!(!store.set("a", 0, "other").await.unwrap());
    assert!(store.set("a", 1, "two").await.unwrap());
    assert!(!store.set("a", 1, "late").await.unwrap());
    assert!(store.set("b", 0, "").await.unwrap());
    assert_eq!(store.get("a").await.unwrap(), Some(StoredTriggers { version: 2, memory: "two".into() }));
    assert_eq!(store.get("b").await.unwrap(), Some(StoredTriggers { version: 1, memory: String::new() }));
}

async fn of_those_who_decide_at_once_one_wins(store: Arc<dyn TriggerStore>) {
    assert!(store.set("c", 0, "start").await.unwrap());
    for version in 1..20 {
        let both = (store.set("c", version, "x"), store.set("c", version, "y"));
        let (x, y) = tokio::join!(both.0, both.1);
        assert!(x.unwrap() != y.unwrap());
    }
}

#[tokio::test]
async fn a_pipelines_triggers_are_kept_and_one_decider_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn TriggerStore> = Arc::new(SqliteTriggers::new(database(folder.path()).await));
    keeps_one_text_for_each_pipeline(&*store).await;
    of_those_who_decide_at_once_one_wins(store).await;
}
