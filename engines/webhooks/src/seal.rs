//! Secrets that others gave and that have to be used again: a database keeps them sealed (AES-256-GCM, under a fresh nonce each
//! time), so that who reads it, or a copy of it, has none. What is sealed for one webhook opens for no other.
//!
//! The keys are derived from secrets of the server's. The first one seals; each opens what it sealed, so that one may take the
//! place of another.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::Secret;
use hmac::{Hmac, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::Sha256;

/// What keys are derived for: no other use of the same secret gives the same.
const PURPOSE: &[u8] = b"forebay secrets of the registry's webhooks, v1";
/// How what is sealed begins.
const VERSION: &str = "s1";

/// Gives the secrets that keys are derived from, the current one first; asked once, when the first secret is sealed or opened.
type Given = dyn Fn() -> Result<Vec<Secret>, String> + Send + Sync;

struct Key {
    /// By which it is found again; it says nothing of the key.
    name: String,
    key: LessSafeKey,
}

/// Seals secrets and opens them. Clones are the same. The default one has nothing to do it with.
#[derive(Clone, Default)]
pub struct Sealing {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    given: Box<Given>,
    keys: OnceLock<Vec<Key>>,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealing")
    }
}

fn key(secret: &Secret) -> Option<Key> {
    // A key of any length is taken.
    let derive = |what: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
        mac.update(PURPOSE);
        mac.update(what);
        Some(mac.finalize().into_bytes())
    };
    let name: String = derive(b"name")?.iter().take(4).map(|b| format!("{b:02x}")).collect();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(b"key")?).ok()?);
    Some(Key { name, key })
}

impl Sealing {
    /// With keys of the secrets that `given` gives.
    pub fn new(given: impl Fn() -> Result<Vec<Secret>, String> + Send + Sync + 'static) -> Self {
        Sealing { inner: Some(Arc::new(Inner { given: Box::new(given), keys: OnceLock::new() })) }
    }

    fn keys(&self) -> Result<&[Key], String> {
        let none = || "nothing is here to seal secrets with".to_owned();
        let inner = self.inner.as_ref().ok_or_else(none)?;
        if let Some(keys) = inner.keys.get() {
            return Ok(keys);
        }
        let keys: Vec<Key> = (inner.given)()?.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(none());
        }
        Ok(inner.keys.get_or_init(|| keys))
    }

    /// Seals a secret for what is named.
    ///
    /// # Errors
    /// There is no key or no randomness; in words.
    pub fn seal(&self, secret: &Secret, of: &str) -> Result<String, String> {
        let first = self.keys()?.first().ok_or("nothing is here to seal secrets with")?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| "the system gives no random numbers")?;
        let mut sealed = secret.expose().as_bytes().to_vec();
        let of = Aad::from(of.as_bytes());
        let done = first.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), of, &mut sealed);
        done.map_err(|_| "the secret cannot be sealed")?;
        Ok(format!("{VERSION}.{}.{}", first.name, STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Opens what was sealed for what is named.
    ///
    /// # Errors
    /// No key of these sealed it, or it was sealed for something else; in words.
    pub fn open(&self, sealed: &str, of: &str) -> Result<Secret, String> {
        let wrong = || {
            "the webhook's secret was sealed by a key that this server does not have (`jobs.webhook.secret`, or that of its \
             folder): set it again"
                .to_owned()
        };
        let (name, rest) = sealed
            .strip_prefix(VERSION)
            .and_then(|s| s.strip_prefix('.'))
            .and_then(|s| s.split_once('.'))
            .ok_or_else(wrong)?;
        let key = self.keys()?.iter().find(|k| k.name == name).ok_or_else(wrong)?;
        let bytes = STANDARD.decode(rest).map_err(|_| wrong())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut sealed = sealed.to_vec();
        let of = Aad::from(of.as_bytes());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, of, &mut sealed).map_err(|_| wrong())?;
        Ok(Secret::new(String::from_utf8(opened.to_vec()).map_err(|_| wrong())?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealing(all: &[&str]) -> Sealing {
        let all: Vec<String> = all.iter().map(|&s| s.to_owned()).collect();
        Sealing::new(move || Ok(all.iter().cloned().map(Secret::new).collect()))
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_for_what_it_was_sealed_for_and_by_its_key_alone(secret in ".{0,80}", of in "[a-z]{1,9}", flip in any::<prop::sample::Index>()) {
            let (one, other, both) = (sealing(&["a"]), sealing(&["b"]), sealing(&["b", "a"]));
            let text = Secret::new(secret.clone());
            let sealed = one.seal(&text, &of).unwrap();
            prop_assert_ne!(&sealed, &one.seal(&text, &of).unwrap(), "under a fresh nonce each time");
            prop_assert!(secret.len() < 4 || !sealed.contains(&secret));
            let opened = |by: &Sealing, sealed: &str, of: &str| by.open(sealed, of).map(|s| s.expose().to_owned());
            prop_assert_eq!(opened(&one, &sealed, &of), Ok(secret.clone()));
            prop_assert_eq!(opened(&both, &sealed, &of), Ok(secret.clone()), "the key before");
            prop_assert!(opened(&other, &sealed, &of).is_err());
            prop_assert!(opened(&one, &sealed, "another one").is_err());
            prop_assert!(opened(&other, &both.seal(&text, &of).unwrap(), &of).is_ok(), "the current one seals");
            // Whatever is changed in it, it does not open, or is the same still (the end of base64 has bits to spare).
            let at = flip.index(sealed.len());
            let mut bent = sealed.into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            if let Ok(said) = opened(&one, &String::from_utf8(bent).unwrap(), &of) {
                prop_assert_eq!(said, secret);
            }
        }
    }

    #[test]
    fn without_a_key_nothing_is_sealed() {
        assert!(Sealing::default().seal(&Secret::new("x"), "w").is_err());
        assert!(sealing(&[]).seal(&Secret::new("x"), "w").is_err());
        let failing = Sealing::new(|| Err("the disk is gone".to_owned()));
        assert_eq!(failing.seal(&Secret::new("x"), "w"), Err("the disk is gone".to_owned()));
        for text in ["", "s1", "s1.", "s1.00000000.", "s1.00000000.!!", "s2.a.b"] {
            assert!(sealing(&["a"]).open(text, "w").is_err(), "{text}");
        }
    }
}
