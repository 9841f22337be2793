//! What every [`CacheStore`](store::CacheStore) must do.

use contract::UnixMillis;
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
