//! The signature of a message: HMAC-SHA256 over `{id}.{timestamp}.{body}`, one for each secret, so that a receiver may know
//! the old or the new one while a secret is replaced.
//!
//! Whom a tenant names gets messages that are signed with the tenant's own secret, which is derived from the configured one:
//! nobody who knows it can sign in another tenant's name, or find the configured one. The operator's own receiver gets
//! messages about every tenant, and is the only one that knows the configured secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::{Secret, TenantId};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::Error;

/// What a tenant's secret is derived for: no other use of the configured secret gives the same.
const PURPOSE: &[u8] = b"forebay webhook secret of a tenant, v1";

/// Signs with every secret it has.
#[derive(Clone)]
pub struct Signer {
    keys: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({} secrets)", self.keys.len())
    }
}

/// HMAC-SHA256 over the parts.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Option<[u8; 32]> {
    // A key of any length is taken.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac.finalize().into_bytes().into())
}

fn derived(key: &[u8], tenant: &TenantId, number: u32) -> Option<[u8; 32]> {
    let name = tenant.as_str().as_bytes();
    hmac(key, &[PURPOSE, &number.to_le_bytes(), name])
}

impl Signer {
    /// With these secrets, the current one first.
    ///
    /// # Errors
    /// One that is not `whsec_` and base64 of 24 to 64 bytes.
    pub fn new(secrets: &[Secret]) -> Result<Self, Error> {
        let key = |s: &Secret| {
            let text = s.expose().strip_prefix("whsec_").ok_or(Error::Secret)?;
            let key = STANDARD.decode(text).map_err(|_| Error::Secret)?;
            if (24..=64).contains(&key.len()) { Ok(key) } else { Err(Error::Secret) }
        };
        Ok(Signer { keys: secrets.iter().map(key).collect::<Result<_, _>>()? })
    }

    /// With a secret that is any text, as MLflow's are.
    pub(crate) fn of_text(secret: &Secret) -> Self {
        Signer { keys: vec![secret.expose().as_bytes().to_vec()] }
    }

    /// Whether there is nothing to sign with.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A tenant's own secret of that number, as its receivers are told it. `None` when there is nothing to sign with.
    pub fn secret_of(&self, tenant: &TenantId, number: u32) -> Option<Secret> {
        let key = derived(self.keys.first()?, tenant, number)?;
        Some(Secret::new(format!("whsec_{}", STANDARD.encode(key))))
    }

    /// Signs in the tenant's name, with its secrets of these numbers.
    pub fn of_tenant(&self, tenant: &TenantId, numbers: &[u32]) -> Signer {
        let own = |key: &Vec<u8>| {
            let own = numbers.iter().filter_map(|n| derived(key, tenant, *n));
            own.map(Vec::from).collect::<Vec<_>>()
        };
        Signer { keys: self.keys.iter().flat_map(own).collect() }
    }

    /// The value of `webhook-signature`; `timestamp` in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &Vec<u8>| {
            let mac = hmac(key, &[format!("{id}.{timestamp}.").as_bytes(), body])?;
            Some(format!("v1,{}", STANDARD.encode(mac)))
        };
        self.keys.iter().filter_map(one).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn the_example_of_the_standard_is_signed_as_it_says() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = Signer::new(std::slice::from_ref(&secret)).unwrap();
        let signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = Signer::new(&[Secret::new(format!("whsec_{}", STANDARD.encode([7; 32]))), secret]).unwrap();
        assert!(
            two.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
                .ends_with(&signed)
        );
        assert!(!format!("{two:?}").contains("Mf"));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert!(Signer::new(&[Secret::new(text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn what_one_tenant_knows_signs_for_no_other_and_not_for_the_operator() {
        let master = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = Signer::new(std::slice::from_ref(&master)).unwrap();
        let (a, b) = (TenantId::from("a"), TenantId::from("b"));
        let signed = |s: &Signer| s.sign("msg_1", 5, b"x");
        let secrets = [signer.secret_of(&a, 0), signer.secret_of(&a, 1), signer.secret_of(&b, 0)];
        let mut all: Vec<String> = vec![signed(&signer)];
        for secret in secrets {
            // As a receiver verifies it: by the secret that it was told.
            all.push(signed(&Signer::new(&[secret.unwrap()]).unwrap()));
        }
        assert_eq!(signed(&signer.of_tenant(&a, &[0])), all[1]);
        assert_eq!(signed(&signer.of_tenant(&b, &[0])), all[3]);
        assert_eq!(
            signed(&signer.of_tenant(&a, &[1, 0])),
            format!("{} {}", all[2], all[1]),
            "while it is replaced"
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
        // While the configured secret is replaced, receivers that know one made of the old one still verify.
        let two = Signer::new(&[Secret::new(format!("whsec_{}", STANDARD.encode([7; 32]))), master]).unwrap();
        assert!(signed(&two.of_tenant(&a, &[0])).ends_with(&signed(&signer.of_tenant(&a, &[0]))));
    }
}
