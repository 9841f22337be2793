//! What every [`CacheStore`](store::CacheStore) must do.

use contract::UnixMillis;
use futures_util::future::join_all;
use store::CacheKey;

use super::Subject;

pub async fn the_least_recently_used_part_goes_first(on: &Subject) {
    let s = &*on.cache(100).await;
    let key = |n: u32| CacheKey::derive(&"gold".into(), [n.to_le_bytes()]);
    for n in 0..3 {
        s.put(&key(n), &[0; 30], UnixMillis(0)).await.unwrap();
    }
    assert!(s.get(&key(0)).await.unwrap().is_some());
    s.put(&key(3), &[1; 40], UnixMillis(0)).await.unwrap();
    assert_eq!(s.get(&key(1)).await.unwrap(), None, "the oldest that nobody used");
    assert_eq!(s.get(&key(3)).await.unwrap(), Some(vec![1; 40]));
    s.put(&key(3), &[2; 10], UnixMillis(0)).await.unwrap();
    assert_eq!(s.get(&key(3)).await.unwrap(), Some(vec![2; 10]));
    s.put(&key(4), &[0; 101], UnixMillis(0)).await.unwrap();
    assert_eq!(s.get(&key(4)).await.unwrap(), None, "too large to keep");
    let stats = s.stats().await.unwrap();
    assert_eq!((stats.hits, stats.misses, stats.evicted, stats.bytes), (3, 2, 1, 70));
}

pub async fn parts_put_at_once_are_never_more_than_the_limit(on: &Subject) {
    let s = &*on.cache(100).await;
    let key = |n: u32| CacheKey::derive(&"gold".into(), [n.to_le_bytes()]);
    let keys: Vec<CacheKey> = (0..20).map(key).collect();
    for done in join_all(keys.iter().map(|k| s.put(k, &[7; 30], UnixMillis(0)))).await {
        done.unwrap();
    }
    let stats = s.stats().await.unwrap();
    assert_eq!((stats.bytes, stats.evicted), (90, 17));
    let mut found = 0;
    for key in &keys {
        found += usize::from(s.get(key).await.unwrap().is_some());
    }
    assert_eq!(found, 3);
}
