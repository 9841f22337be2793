//! Records that can be checked by anybody: canonical bytes, a hash that names them, a signature over them.
//!
//! Bytes are JSON in the one form of RFC 8785. The signature is Ed25519 over the pre-authentication encoding of DSSE
//! (`DSSEv1 <len> <type> <len> <payload>`), and the envelope is DSSE's, so that tools that know it can verify ours. What is verified
//! are the bytes as they were signed: nothing is parsed before the signature holds. The private key never enters here: whoever has it
//! implements [`Signer`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The type of a decision's payload.
pub const DECISION: &str = "application/vnd.forebay.decision+json";

/// Why a record is not taken. Fits "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key's holder did not sign.
    #[error("sign the record: {0}")]
    Sign(String),
    /// The record has no canonical form: it holds a number that JSON does not have.
    #[error("write the record in canonical form: {0}")]
    Form(String),
    /// No signature of a known key holds.
    #[error("verify the record: {0}")]
    Unverified(String),
    /// The signature holds, and what was signed is not such a record.
    #[error("read the record: {0}")]
    Record(String),
}

/// Who can sign: a key in a file, in an agent, in a module of hardware.
pub trait Signer {
    /// What the key is called; verification looks the public key up by it.
    fn key_id(&self) -> &str;
    /// The Ed25519 signature of a message, 64 bytes.
    ///
    /// # Errors
    /// The key cannot be used now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// A public key, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name.
    pub id: String,
    /// 32 bytes.
    pub bytes: Vec<u8>,
}

/// A signed record: an envelope of DSSE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sealed {
    /// What the payload is.
    pub payload_type: String,
    /// The record's canonical bytes, in base64.
    pub payload: String,
    /// Who signed.
    pub signatures: Vec<Signature>,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The name of the key.
    pub keyid: String,
    /// The signature in base64.
    pub sig: String,
}

/// The canonical bytes of a value: RFC 8785.
///
/// # Errors
/// It holds what JSON does not have.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, SealError> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| SealError::Form(e.to_string()))
}

/// The name of a value: the BLAKE3 hash of its canonical bytes, `b3:` and 64 hexadecimal digits; of nothing where it has none.
pub fn hash(value: &impl Serialize) -> String {
    name(&canonical(value).unwrap_or_default())
}

fn name(bytes: &[u8]) -> String {
    format!("b3:{}", blake3::hash(bytes).to_hex())
}

/// What is signed for a payload.
fn message(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

impl Sealed {
    /// Signs a record.
    ///
    /// # Errors
    /// [`SealError::Form`] or [`SealError::Sign`].
    pub fn seal(
        record: &impl Serialize,
        payload_type: &str,
        signer: &dyn Signer,
    ) -> Result<Sealed, SealError> {
        let bytes = canonical(record)?;
        let signature = signer.sign(&message(payload_type, &bytes))?;
        Ok(Sealed {
            payload_type: payload_type.to_owned(),
            payload: STANDARD.encode(&bytes),
            signatures: vec![Signature {
                keyid: signer.key_id().to_owned(),
                sig: STANDARD.encode(signature),
            }],
        })
    }

    /// The hash that names the record, whoever signed it.
    ///
    /// # Errors
    /// The payload is not base64.
    pub fn name(&self) -> Result<String, SealError> {
        Ok(name(&self.bytes()?))
    }

    fn bytes(&self) -> Result<Vec<u8>, SealError> {
        STANDARD.decode(&self.payload).map_err(|_| SealError::Unverified("its payload is not base64".into()))
    }

    /// The record, when a signature of one of these keys holds for it.
    ///
    /// # Errors
    /// [`SealError::Unverified`] when none does or it is of another type, [`SealError::Record`] when it is no such record.
    pub fn open<T: DeserializeOwned>(&self, payload_type: &str, keys: &[PublicKey]) -> Result<T, SealError> {
        if self.payload_type != payload_type {
            return Err(SealError::Unverified(format!(
                "it is `{}`, not `{payload_type}`",
                self.payload_type
            )));
        }
        let bytes = self.bytes()?;
        let message = message(payload_type, &bytes);
        let holds = |signature: &Signature| {
            let key = keys.iter().find(|k| k.id == signature.keyid);
            let sig = STANDARD.decode(&signature.sig).unwrap_or_default();
            key.is_some_and(|key| {
                let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &key.bytes);
                key.verify(&message, &sig).is_ok()
            })
        };
        if !self.signatures.iter().any(holds) {
            let named =
                self.signatures.iter().map(|s| format!("`{}`", s.keyid)).collect::<Vec<_>>().join(", ");
            return Err(SealError::Unverified(format!(
                "no signature of a known key holds; it names {named}"
            )));
        }
        serde_json::from_slice(&bytes).map_err(|e| SealError::Record(e.to_string()))
    }
}
