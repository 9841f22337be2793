//! API keys: made once, shown once, kept as a hash.
//!
//! A key reads `fbk_<id>_<secret>`: the id is public and finds the entry, the secret is 32 random bytes in base64url. Only
//! a BLAKE3 hash of the whole is stored, and it is compared in constant time. (A slow password hash would add nothing
//! against 256 random bits.)

mod ring;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::{BoxFuture, KeyId, Secret, TenantId, UnixMillis};
use serde::{Deserialize, Serialize};

pub use ring::{KeyRing, Refusal};

use crate::Error;

/// What is kept of a key's secret.
#[derive(Clone, Copy)]
pub struct KeyHash(pub [u8; 32]);

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(***)")
    }
}

impl KeyHash {
    /// The hash of a whole key, as presented.
    pub fn of(presented: &str) -> KeyHash {
        // Deriving the context once is half of the work of a check.
        static CONTEXT: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key("forebay 2026 api key"));
        KeyHash(*CONTEXT.clone().update(presented.as_bytes()).finalize().as_bytes())
    }
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ask models and pipelines, and see its own tenant's requests.
    #[default]
    User,
    /// That, and administer a running server: keys, bills, every tenant's requests.
    Admin,
}

impl Role {
    /// The name in tables and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Admin => "admin",
        }
    }
}

/// What a key is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// For people: `ci`, `alice`.
    pub name: String,
    /// Who pays for what it asks.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// From when on it is refused.
    pub expires_at: Option<UnixMillis>,
}

/// What is known of a key. Never the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// The public part.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// Who pays.
    pub tenant: TenantId,
    /// What it may do.
    #[serde(default)]
    pub role: Role,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it is refused.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// Every key at one version of the set.
#[derive(Debug, Clone, Default)]
pub struct KeySnapshot {
    /// Rises with every change.
    pub version: i64,
    /// The keys with their hashes.
    pub keys: Vec<(KeyInfo, KeyHash)>,
}

/// Where keys are kept.
///
/// Contract: a change and the rise of the version are one transaction; reads see every change that ended before they
/// began, by whichever process.
pub trait KeyStore: Send + Sync {
    /// Adds a key. Fails when the id is taken.
    fn add<'a>(&'a self, key: &'a KeyInfo, hash: KeyHash) -> BoxFuture<'a, Result<(), Error>>;
    /// Every key, revoked ones included, oldest first.
    fn list(&self) -> BoxFuture<'_, Result<Vec<KeyInfo>, Error>>;
    /// Revokes a key; the first revocation's time stays. [`Error::UnknownKey`] when there is none.
    fn revoke<'a>(&'a self, id: &'a KeyId, at: UnixMillis) -> BoxFuture<'a, Result<KeyInfo, Error>>;
    /// The version alone: one tiny read, for polling.
    fn version(&self) -> BoxFuture<'_, Result<i64, Error>>;
    /// Everything, in one consistent read.
    fn snapshot(&self) -> BoxFuture<'_, Result<KeySnapshot, Error>>;
}

const ID_LENGTH: usize = 12;
const ID_LETTERS: [u8; 32] = *b"abcdefghijkmnpqrstuvwxyz23456789";
const PREFIX: &str = "fbk_";

/// Fills a buffer from the system's randomness.
pub fn os_random(buffer: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(buffer).map_err(|e| Error::Random(e.to_string()))
}

/// Makes a key and stores its hash. The secret is in the answer and nowhere else. `random` fills a buffer, in service
/// [`os_random`].
pub async fn create_key(
    store: &dyn KeyStore,
    new: NewKey,
    at: UnixMillis,
    random: impl FnOnce(&mut [u8]) -> Result<(), Error>,
) -> Result<(KeyInfo, Secret), Error> {
    let mut bytes = [0u8; ID_LENGTH + 32];
    random(&mut bytes)?;
    let (id, secret) = bytes.split_at(ID_LENGTH);
    let letter = |b: &u8| ID_LETTERS.get(usize::from(b % 32)).copied().map_or('a', char::from);
    let id: String = id.iter().map(letter).collect();
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let info = KeyInfo {
        id: KeyId::from(id),
        name: new.name,
        tenant: new.tenant,
        role: new.role,
        created_at: at,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    store.add(&info, KeyHash::of(&text)).await?;
    Ok((info, Secret::new(text)))
}

/// The public id within a presented key, if it has the form of one.
fn id_of(presented: &str) -> Option<&str> {
    let (id, secret) = presented.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == ID_LENGTH && secret.len() == 43).then_some(id)
}
