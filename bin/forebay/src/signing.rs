//! The key that decisions are signed with: Ed25519, made when it is first needed, readable by its owner alone. Its public part lies
//! beside it, for whoever verifies.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use contract::Secret;
use models::gate::seal::{PublicKey, SealError, Signer};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tempfile::NamedTempFile;

/// Where it is, in the project's folder.
const FILE: &str = ".forebay/decisions.key";

/// A key in a file.
pub(crate) struct Key {
    id: String,
    pair: Ed25519KeyPair,
}

impl Key {
    /// The project's key, made if there is none.
    ///
    /// # Errors
    /// The file cannot be read or made, or holds no key; in words.
    pub(crate) fn of(project: &Path) -> Result<Key, String> {
        let path = project.join(FILE);
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        if let Some(key) = read(&path).map_err(failed)? {
            return key.ok_or_else(|| {
                format!("{} holds no key: move it away, and another is made", path.display())
            });
        }
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|_| "the system gives no random numbers".to_owned())?;
        // Whole under another name first: nobody reads half a key.
        let mut aside = NamedTempFile::new_in(project.join(".forebay")).map_err(failed)?;
        aside.write_all(made.as_ref()).and_then(|()| aside.as_file().sync_all()).map_err(failed)?;
        // Who made one meanwhile was first.
        match aside.persist_noclobber(&path) {
            Err(e) if e.error.kind() != ErrorKind::AlreadyExists => return Err(failed(e.error)),
            _ => {}
        }
        let none = || format!("{} holds no key", path.display());
        read(&path).map_err(failed)?.flatten().ok_or_else(none)
    }

    /// Its public part.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey { id: self.id.clone(), bytes: self.pair.public_key().as_ref().to_vec() }
    }
}

/// What secrets of others are sealed with that the project's database keeps, if it is not configured: made of the project's key, which
/// is made too if it is to be there.
///
/// # Errors
/// The file cannot be read or made, or holds no key; in words.
pub(crate) fn sealing(project: &Path, make: bool) -> Result<Option<Secret>, String> {
    let path = project.join(FILE);
    if make {
        Key::of(project)?;
    }
    match std::fs::read(&path) {
        Ok(bytes) => {
            let key = blake3::derive_key("forebay 2026 secrets that the database of a project keeps", &bytes);
            Ok(Some(Secret::new(blake3::Hash::from_bytes(key).to_hex().to_string())))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// The key of a file; nothing when there is no file, and nothing in it when it holds none.
fn read(path: &Path) -> std::io::Result<Option<Option<Key>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(4_096).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let key = Ed25519KeyPair::from_pkcs8(&bytes).ok().map(|pair| {
        let sum = blake3::hash(pair.public_key().as_ref()).to_hex();
        Key { id: format!("ed25519:{}", sum.get(..16).unwrap_or_default()), pair }
    });
    Ok(Some(key))
}

impl Signer for Key {
    fn key_id(&self) -> &str {
        &self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::gate::seal::Sealed;

    #[test]
    fn a_project_has_one_key_which_nobody_else_reads_and_what_it_signed_verifies() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".forebay")).unwrap();
        let keys: Vec<Key> = (0..3).map(|_| Key::of(folder.path()).unwrap()).collect();
        assert!(keys.iter().all(|key| key.id == keys[0].id));
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sealed = Sealed::seal(&serde_json::json!({"a": 1}), "x", &keys[0]).unwrap();
        let opened: serde_json::Value = sealed.open("x", &[keys[2].public()]).unwrap();
        assert_eq!(opened["a"], 1);
        std::fs::write(folder.path().join(FILE), "no key").unwrap();
        assert!(Key::of(folder.path()).is_err_and(|e| e.contains("move it away")));
    }
}
