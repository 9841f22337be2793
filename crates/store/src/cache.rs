//! The part cache: results of parts by the hash of what they were made from, so that an edited document re-runs only what
//! changed.
//!
//! Tenants are kept apart by the key itself: the tenant goes into its derivation, so that no query can cross over.

use contract::{BoxFuture, TenantId, UnixMillis};

use crate::Error;

/// The key of a cached part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Derived from the tenant and everything the result depends on, in order. `["ab", "c"]` and `["a", "bc"]` differ.
    pub fn derive<P: AsRef<[u8]>>(tenant: &TenantId, parts: impl IntoIterator<Item = P>) -> CacheKey {
        let mut hasher = blake3::Hasher::new_derive_key("forebay 2026 part cache");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(tenant.as_str().as_bytes());
        for part in parts {
            field(part.as_ref());
        }
        CacheKey(*hasher.finalize().as_bytes())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// How the cache did, since this process opened it, and how large it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Found.
    pub hits: u64,
    /// Not found.
    pub misses: u64,
    /// Removed to make room.
    pub evicted: u64,
    /// Bytes of values held.
    pub bytes: u64,
}

/// Where parts are kept.
///
/// Contract: the bytes held never exceed the limit after a `put`; what was used least recently goes first; a value larger
/// than the limit is not kept. A lost entry costs a recomputation and nothing else.
pub trait CacheStore: Send + Sync {
    /// The value, if it is there.
    fn get<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>>;
    /// Keeps a value, replacing an older one.
    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        value: &'a [u8],
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(), Error>>;
    /// How it does.
    fn stats(&self) -> BoxFuture<'_, Result<CacheStats, Error>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_tenant_and_by_where_parts_are_split() {
        let (a, b) = (TenantId::from("a"), TenantId::from("ab"));
        assert_ne!(CacheKey::derive(&a, ["ab", "c"]), CacheKey::derive(&a, ["a", "bc"]));
        assert_ne!(CacheKey::derive(&a, ["b"]), CacheKey::derive(&b, [""]));
        assert_eq!(CacheKey::derive(&a, ["x"]), CacheKey::derive(&a, ["x"]));
    }
}
