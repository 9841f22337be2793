//! What every [`MemoryStore`](store::MemoryStore) must do, in each of its tables.

use futures_util::future::join_all;
use store::StoredMemory;

use super::Subject;

pub async fn one_text_is_kept_for_each_name(on: &Subject) {
    for s in [on.triggers(), on.watching()] {
        // Nothing of one is seen in the other: both begin with nothing.
        assert_eq!(s.get("a").await.unwrap(), None);
        assert!(!s.set("a", 1, "never").await.unwrap());
        assert!(s.set("a", 0, "one").await.unwrap());
        assert!(!s.set("a", 0, "other").await.unwrap());
        assert!(s.set("a", 1, "two\0\u{1F30A}").await.unwrap());
        assert!(!s.set("a", 1, "late").await.unwrap());
        assert!(s.set("b", 0, "").await.unwrap());
        let kept = |version, memory: &str| Some(StoredMemory { version, memory: memory.to_owned() });
        assert_eq!(s.get("a").await.unwrap(), kept(2, "two\0\u{1F30A}"));
        assert_eq!(s.get("b").await.unwrap(), kept(1, ""));
    }
}

pub async fn of_those_who_set_at_once_one_wins(on: &Subject) {
    for s in [on.triggers(), on.watching()] {
        for version in 0..10 {
            let texts: Vec<String> = (0..8).map(|who| format!("{version} by {who}")).collect();
            let won = join_all(texts.iter().map(|text| s.set("c", version, text))).await;
            let won: Vec<usize> = (0..8).filter(|who| *won[*who].as_ref().unwrap()).collect();
            let kept = s.get("c").await.unwrap().unwrap();
            assert_eq!((won.len(), kept.version, kept.memory), (1, version + 1, texts[won[0]].clone()));
        }
    }
}
