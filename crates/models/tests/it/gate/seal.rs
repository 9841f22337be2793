//! Signed records: what holds, and that nothing else does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use models::gate::seal::{DECISION, PublicKey, SealError, Sealed, Signer, canonical, hash};
use models::gate::{Decision, decide, parse};
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::{FULL, NOW, case, rows};

struct Key(&'static str, Ed25519KeyPair);

impl Key {
    fn new(id: &'static str, seed: u8) -> Key {
        Key(id, Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }
    fn public(&self) -> PublicKey {
        PublicKey { id: self.0.into(), bytes: self.1.public_key().as_ref().to_vec() }
    }
}

impl Signer for Key {
    fn key_id(&self) -> &str {
        self.0
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.1.sign(message).as_ref().to_vec())
    }
}

#[test]
fn a_decision_is_opened_as_it_was_sealed_and_named_by_its_content() {
    let (new, old) = (rows(2, 1_000, 0.2), rows(3, 1_000, 0.2));
    let decision = decide(&parse(FULL).unwrap(), &case(&new, Some(&old)), NOW).unwrap();
    let key = Key::new("gate-1", 7);
    let sealed = Sealed::seal(&decision, DECISION, &key).unwrap();
    let text = serde_json::to_string(&sealed).unwrap();
    let again: Sealed = serde_json::from_str(&text).unwrap();
    let opened: Decision = again.open(DECISION, &[Key::new("other", 8).public(), key.public()]).unwrap();
    assert_eq!(opened.checks.len(), decision.checks.len());
    assert_eq!(again.name().unwrap(), hash(&decision));
    let later = Decision { at: contract::UnixMillis(NOW.0 + 1), ..decision };
    assert_ne!(hash(&later), again.name().unwrap());
}

#[test]
fn what_another_key_signed_or_another_type_is_not_opened() {
    let key = Key::new("gate-1", 7);
    let sealed = Sealed::seal(&json!({"a": 1}), DECISION, &key).unwrap();
    let open = |sealed: &Sealed, ty, keys: &[PublicKey]| sealed.open::<serde_json::Value>(ty, keys);
    assert!(open(&sealed, DECISION, &[key.public()]).is_ok());
    // The same name, another key.
    let error = open(&sealed, DECISION, &[Key::new("gate-1", 9).public()]).unwrap_err();
    assert_eq!(error.to_string(), "verify the record: no signature of a known key holds; it names `gate-1`");
    assert!(open(&sealed, DECISION, &[]).is_err());
    assert!(open(&sealed, "application/json", &[key.public()]).is_err());
    let renamed = Sealed { payload_type: "application/json".into(), ..sealed.clone() };
    assert!(open(&renamed, "application/json", &[key.public()]).is_err(), "the type is signed too");
    let bare = Sealed { signatures: vec![], ..sealed };
    assert!(open(&bare, DECISION, &[key.public()]).is_err());
}

/// The vector of RFC 8032 for the empty message: the library is used as it is meant.
#[test]
fn signatures_are_those_of_rfc_8032() {
    let hex = |s: &str| {
        (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect::<Vec<_>>()
    };
    let pair = Ed25519KeyPair::from_seed_unchecked(&hex(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    ))
    .unwrap();
    let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
    assert_eq!(pair.sign(b"").as_ref(), hex(expected));
}

#[test]
fn canonical_bytes_are_those_of_rfc_8785() {
    let value = json!({"€": 1.0, "\r": 1e30, "b": [4.50, 2e-3, 1e-27, 333_333_333.333_333_3], "a": {"z": "\u{20ac}$\n\"", "k": -0.0}});
    let bytes = canonical(&value).unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "{\"\\r\":1e+30,\"a\":{\"k\":0,\"z\":\"€$\\n\\\"\"},\"b\":[4.5,0.002,1e-27,333333333.3333333],\"€\":1}"
    );
    let turned: serde_json::Value = serde_json::from_str("{\"y\": 1, \"x\": 2}").unwrap();
    assert_eq!(hash(&turned), hash(&json!({"x": 2, "y": 1})));
}

proptest! {
    #[test]
    fn one_changed_bit_is_seen(at in 0_usize..1_000, bit in 0_u8..8, what in 0_u8..2) {
        let key = Key::new("gate-1", 7);
        let mut sealed = Sealed::seal(&json!({"model": "m", "verdict": "refused", "value": 0.25}), DECISION, &key).unwrap();
        let target = if what == 0 { &mut sealed.payload } else { &mut sealed.signatures[0].sig };
        let mut bytes = STANDARD.decode(&*target).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        *target = STANDARD.encode(bytes);
        prop_assert!(sealed.open::<serde_json::Value>(DECISION, &[key.public()]).is_err());
    }
}
