//! The path of an artifact.

use store::tracking::Refused;

/// A path below a root: names with `/` between, none of them empty, `.` or `..`. The empty one is the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ArtifactPath(String);

/// The longest path, in bytes.
const LONGEST: usize = 2_048;
/// The longest name in it.
const NAME: usize = 255;

impl ArtifactPath {
    /// Reads one as it was written, escapes read already or not: one that leads elsewhere when they are read is refused.
    ///
    /// # Errors
    /// Of one that could lead out of its root, or that no file may have.
    pub fn new(path: &str) -> Result<ArtifactPath, Refused> {
        let wrong = || Refused::invalid("Invalid path");
        // As often as somebody escaped it: what is harmless only so is not.
        let mut plain = path.to_owned();
        loop {
            if !harmless(&plain) {
                return Err(wrong());
            }
            let next = unescaped(&plain);
            if next == plain {
                break;
            }
            plain = next;
        }
        Ok(ArtifactPath(path.trim_end_matches('/').to_owned()))
    }

    /// A path below this one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn join(&self, path: &str) -> Result<ArtifactPath, Refused> {
        let below = ArtifactPath::new(path)?;
        Ok(match (self.0.as_str(), below.0.as_str()) {
            ("", _) => below,
            (_, "") => self.clone(),
            (root, path) => ArtifactPath(format!("{root}/{path}")),
        })
    }

    /// It.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

fn harmless(path: &str) -> bool {
    if path.len() > LONGEST || path.starts_with('/') || path.contains(['\0', '\\']) {
        return false;
    }
    let path = path.trim_end_matches('/');
    let drive = path.as_bytes().get(1) == Some(&b':') && path.starts_with(|c: char| c.is_ascii_alphabetic());
    let name = |n: &str| !n.is_empty() && n != "." && n != ".." && n.len() <= NAME;
    !drive && (path.is_empty() || path.split('/').all(name))
}

/// With `%XX` read, where that is text.
fn unescaped(path: &str) -> String {
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let bytes = path.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        match (b, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                plain.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                plain.push(b);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for bad in [
            "..",
            "a/../b",
            "/etc",
            "a//b",
            "%2e%2e/x",
            "%252e%252e",
            "a\\b",
            "C:/x",
            "a\0",
            "./a",
            "a/%2fb",
            "%2fetc",
        ] {
            assert!(ArtifactPath::new(bad).is_err(), "{bad}");
        }
        for good in ["", "a", "a/b.c", "a b/ü%20", "..a", "a/", "100%", "%zz"] {
            assert!(ArtifactPath::new(good).is_ok(), "{good}");
        }
        let root = ArtifactPath::new("0/r/artifacts").unwrap();
        assert_eq!(root.join("m/x").unwrap().as_str(), "0/r/artifacts/m/x");
        assert_eq!(root.join("").unwrap(), root);
        assert!(root.join("../../x").is_err());
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_root(path in "([./%2eEfF\\\\ab\0:]|\\PC){0,16}") {
            if let Ok(path) = ArtifactPath::new(&path) {
                for c in Path::new(path.as_str()).components() {
                    prop_assert!(matches!(c, Component::Normal(_)), "{:?}", c);
                }
            }
        }
    }
}
