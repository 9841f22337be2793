//! The signature of a message: HMAC-SHA256 over `{id}.{timestamp}.{body}`, one for each secret, so that a receiver may know
//! the old or the new one while a secret is replaced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::Error;

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

    /// Whether there is nothing to sign with.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The value of `webhook-signature`; `timestamp` in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &Vec<u8>| {
            // A key of any length is taken.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
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
}
