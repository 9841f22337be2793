//! Every dependency's licence is one that `deny.toml` allows, and none is banned there: the parts of cargo-deny that
//! cannot wait, for machines without it. Duplicates, sources and advisories stay its own.
//!
//! Reads cargo-deny's own tables (`[licenses]` `allow` and `exceptions`, `[bans]` `deny`), so that both say the same.
//! A crate that declares no licence or an expression this does not understand fails: silence is not permission.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Prints every refused crate; `false` when there is one.
pub(crate) fn run(root: &Path) -> anyhow::Result<bool> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("failed to read deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("failed to read deny.toml")?;
    let metadata = metadata(root)?;
    let mut refused = 0_usize;
    for package in &metadata.packages {
        let (name, version) = (&package.name, &package.version);
        if let Err(reason) = check(package, &deny.licenses) {
            refused += 1;
            println!(
                "deny.toml:1: {name} {version}: {reason} — replace the crate, or allow it in deny.toml and say why"
            );
        }
        if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.package == *name) {
            refused += 1;
            println!(
                "deny.toml:1: {name} {version} is banned: {} — `cargo tree -i {name}` says who wants it",
                ban.reason
            );
        }
    }
    println!("licences: {} crates, {refused} refused", metadata.packages.len());
    Ok(refused == 0)
}

/// Off line when everything is downloaded already, as after a build; else the lock file says what to get.
fn metadata(root: &Path) -> anyhow::Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut said = String::new();
    for how in ["--offline", "--locked"] {
        let output =
            Command::new(&cargo).args(["metadata", "--format-version=1", how]).current_dir(root).output()?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout)
                .context("failed to read what cargo metadata printed");
        }
        said = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    bail!("cargo metadata failed: {}", said.trim())
}

fn check(package: &Package, rules: &Licenses) -> Result<(), String> {
    let Some(expression) = package.license.as_deref() else { return Err("declares no licence".to_owned()) };
    let exceptions = rules.exceptions.iter().filter(|exception| exception.package == package.name);
    let allowed: Vec<&str> = rules
        .allow
        .iter()
        .chain(exceptions.flat_map(|exception| &exception.allow))
        .map(String::as_str)
        .collect();
    match satisfied(expression, &allowed) {
        Some(true) => Ok(()),
        Some(false) => Err(format!("its licence is not allowed: {expression}")),
        None => Err(format!("its licence is no SPDX expression: {expression}")),
    }
}

/// Whether the allowed licences satisfy an SPDX expression; `None` when it is not one. The old `A/B` means `A OR B`.
fn satisfied(expression: &str, allowed: &[&str]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let result = any(&mut words, allowed)?;
    words.next().is_none().then_some(result)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[&str]) -> Option<bool> {
    let mut result = all(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        result |= all(words, allowed)?;
    }
    Some(result)
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> Option<bool> {
    let mut result = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        result &= one(words, allowed)?;
    }
    Some(result)
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> Option<bool> {
    let word = words.next()?;
    if word == "(" {
        let result = any(words, allowed)?;
        return words.next_if_eq(&")").map(|_| result);
    }
    if matches!(word, ")" | "OR" | "AND" | "WITH") {
        return None;
    }
    if words.next_if_eq(&"WITH").is_some() {
        let whole = format!("{word} WITH {}", words.next()?);
        return Some(allowed.contains(&whole.as_str()));
    }
    Some(allowed.contains(&word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: &[&str] = &["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];

    #[test]
    fn one_allowed_alternative_is_enough_and_every_conjunct_is_needed() {
        assert_eq!(satisfied("MIT OR GPL-3.0", ALLOWED), Some(true));
        assert_eq!(satisfied("MIT AND GPL-3.0", ALLOWED), Some(false));
        assert_eq!(satisfied("GPL-2.0 OR MIT AND GPL-3.0", ALLOWED), Some(false));
        assert_eq!(satisfied("(MIT OR GPL-3.0) AND Unicode-3.0", ALLOWED), Some(true));
        assert_eq!(satisfied("MIT/Apache-2.0", ALLOWED), Some(true));
    }

    #[test]
    fn an_exception_is_part_of_the_licence() {
        assert_eq!(satisfied("Apache-2.0 WITH LLVM-exception", ALLOWED), Some(true));
        assert_eq!(satisfied("MIT WITH Classpath-exception-2.0", ALLOWED), Some(false));
    }

    #[test]
    fn what_is_no_expression_is_not_allowed() {
        for broken in ["", "MIT OR", "(MIT", "MIT)", "MIT MIT", "AND MIT", "MIT WITH"] {
            assert_eq!(satisfied(broken, ALLOWED), None, "{broken:?}");
        }
    }

    #[test]
    fn a_crate_without_a_licence_is_refused_and_an_exception_is_for_its_crate_only() {
        let rules = Licenses {
            allow: vec!["MIT".to_owned()],
            exceptions: vec![Exception { package: "a".to_owned(), allow: vec!["ISC".to_owned()] }],
        };
        let package = |name: &str, license: Option<&str>| Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
        };
        assert!(check(&package("b", None), &rules).is_err());
        assert!(check(&package("a", Some("ISC")), &rules).is_ok());
        assert!(check(&package("b", Some("ISC")), &rules).is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[ ()/A-Z]{0,40}|\\PC{0,40}") {
            let _ = satisfied(&text, ALLOWED);
        }

        #[test]
        fn allowing_more_never_refuses(words in proptest::collection::vec(0_usize..4, 1..6), and in proptest::bool::ANY) {
            let names = ["MIT", "Apache-2.0", "GPL-3.0", "ISC"];
            let expression = words.iter().map(|w| names[*w]).collect::<Vec<_>>().join(if and { " AND " } else { " OR " });
            let (few, many) = (satisfied(&expression, &["MIT"]), satisfied(&expression, &names));
            prop_assert_eq!(many, Some(true));
            prop_assert!(few.is_some());
        }
    }
}
