//! A crate depends only on crates in lower layers, never on a sibling; only the binary knows the engines.
//!
//! The table below is the one in ARCHITECTURE.md. A member that is not in it is an error: a new crate gets its layer
//! in the same change that creates it. Dependencies that are heavy to build are confined to one leaf each.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::finding::Finding;
use crate::tree::{File, Tree};

/// What a workspace member is, and so what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `crates/*`: only lower layers.
    Layer(u8),
    /// `engines/*`: an adapter, a leaf. Any crate below the gateway, no other engine.
    Engine,
    /// `bin/forebay`: wires everything; `testkit` too, because `forebay fake-upstream` is the testkit's.
    Binary,
    /// Fakes for tests: only the bottom (L0, L1), and only the binary ships it.
    Testkit,
    /// Stands alone, so that it runs when nothing else compiles.
    Xtask,
}

const GATEWAY: u8 = 5;

const LAYERS: &[(&str, u8)] = &[
    ("contract", 0),
    ("yaml", 0),
    ("admission", 1),
    ("watch", 1),
    ("store", 1),
    ("pipeline", 2),
    ("data", 3),
    ("llm", 3),
    ("predict", 3),
    ("text", 3),
    ("models", 4),
    ("gateway", GATEWAY),
];

/// Crates from outside that only these members may name, because everybody who does waits for their build.
const CONFINED: &[(&str, &[&str])] = &[
    ("arrow", &["crates/data", "engines/ballista"]),
    ("ballista", &["engines/ballista"]),
    ("datafusion", &["crates/data", "engines/ballista"]),
    ("deltalake", &["crates/data", "engines/ballista"]),
    ("lightgbm3-sys", &["engines/lightgbm"]),
    ("llama-cpp-2", &["engines/llama"]),
    ("llama-cpp-sys-2", &["engines/llama"]),
    ("ort", &["engines/onnx"]),
    ("parquet", &["crates/data", "engines/ballista"]),
    ("redis", &["engines/redis"]),
    // The binary asks databases for the rows of datasets (`sources/sql.rs`); what it keeps itself is the store's.
    ("sqlx", &["crates/store", "engines/postgres", "bin/forebay"]),
];

/// What `contract` never sees: a runtime or I/O.
const NOT_IN_CONTRACT: &[&str] = &["tokio", "hyper", "axum", "sqlx", "reqwest"];

pub(super) fn check(tree: &Tree, found: &mut Vec<Finding>) {
    let paths = workspace_paths(tree);
    for file in &tree.files {
        let Some(member) = file.path.strip_suffix("/Cargo.toml").filter(|member| is_member(member)) else {
            continue;
        };
        let Ok(manifest) = file.text.parse::<Table>() else { continue }; // `manifest` reports it
        let Some(kind) = kind(member) else {
            found.push(Finding::error(
                &file.path,
                1,
                format!("{member} has no layer"),
                "give it one in ARCHITECTURE.md and in xtask/src/tidy/layers.rs",
            ));
            continue;
        };
        for (section, dev) in sections(&manifest) {
            for (name, value) in section {
                let line = line_of(file, name);
                external(file, member, name, value, line, found);
                let Some(target) = resolve(member, name, value, &paths) else { continue };
                let Some(other) = self::kind(&target) else { continue }; // it has its own finding
                if (dev && other == Kind::Testkit) || target == member {
                    continue;
                }
                if let Some(reason) = refusal(kind, other) {
                    found.push(Finding::error(
                        &file.path,
                        line,
                        format!("{member} depends on {target}: {reason}"),
                        "move the shared type to a lower layer, or put a trait where its user lives",
                    ));
                }
            }
        }
    }
}

fn is_member(path: &str) -> bool {
    let mut parts = path.split('/');
    matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some("crates" | "engines" | "bin"), Some(_), None) | (Some("testkit" | "xtask"), None, None)
    )
}

fn kind(member: &str) -> Option<Kind> {
    match member.split_once('/') {
        Some(("crates", name)) => {
            LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| Kind::Layer(*layer))
        }
        Some(("engines", _)) => Some(Kind::Engine),
        Some(("bin", "forebay")) => Some(Kind::Binary),
        None if member == "testkit" => Some(Kind::Testkit),
        None if member == "xtask" => Some(Kind::Xtask),
        _ => None,
    }
}

/// Why `user` may not depend on `used`.
fn refusal(user: Kind, used: Kind) -> Option<&'static str> {
    match (user, used) {
        (Kind::Xtask, _) => Some("xtask stands alone"),
        (_, Kind::Xtask) => Some("xtask is a tool, not a library"),
        (_, Kind::Binary) => Some("nothing depends on the binary"),
        (Kind::Binary, _) => None,
        (_, Kind::Testkit) => Some("testkit is a dev-dependency"),
        (Kind::Engine, Kind::Engine) => Some("engines are leaves and do not know each other"),
        (_, Kind::Engine) => Some("only the binary knows the engines"),
        (Kind::Layer(user), Kind::Layer(used)) if used == user => {
            Some("siblings of one layer do not know each other")
        }
        (Kind::Layer(user), Kind::Layer(used)) if used > user => Some("it is in a higher layer"),
        (Kind::Engine, Kind::Layer(used)) if used >= GATEWAY => Some("engines do not know the gateway"),
        (Kind::Testkit, Kind::Layer(used)) if used > 1 => Some("testkit stands on L0 and L1 only"),
        (Kind::Layer(_) | Kind::Engine | Kind::Testkit, Kind::Layer(_)) => None,
    }
}

fn external(file: &File, member: &str, name: &str, value: &Value, line: usize, found: &mut Vec<Finding>) {
    let name = value.get("package").and_then(Value::as_str).unwrap_or(name);
    if let Some((_, allowed)) = CONFINED.iter().find(|(confined, _)| *confined == name)
        && !allowed.contains(&member)
    {
        found.push(Finding::error(
            &file.path,
            line,
            format!("{name} is confined to {}", allowed.join(", ")),
            "use that crate's own types, so that its users do not wait for the build",
        ));
    }
    if member == "crates/contract" && NOT_IN_CONTRACT.contains(&name) {
        found.push(Finding::error(
            &file.path,
            line,
            format!("contract depends on {name}"),
            "contract holds no runtime and no I/O: put it where it is used",
        ));
    }
}

/// Every table of dependencies, the target-specific ones too, and whether it is for tests only.
fn sections(manifest: &Table) -> impl Iterator<Item = (&Table, bool)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let tables = std::iter::once(manifest).chain(targets.filter_map(|(_, target)| target.as_table()));
    tables.flat_map(|table| {
        [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
            .into_iter()
            .filter_map(|(key, dev)| Some((table.get(key)?.as_table()?, dev)))
    })
}

/// Dependency key → path of the member, from the root's `[workspace.dependencies]`.
fn workspace_paths(tree: &Tree) -> BTreeMap<String, String> {
    let root = tree.get("Cargo.toml").and_then(|file| file.text.parse::<Table>().ok());
    let shared = root.as_ref().and_then(|root| root.get("workspace")?.get("dependencies")?.as_table());
    let with_path =
        |(name, value): (&String, &Value)| Some((name.clone(), normalise(value.get("path")?.as_str()?)));
    shared.into_iter().flatten().filter_map(with_path).collect()
}

fn resolve(member: &str, name: &str, value: &Value, paths: &BTreeMap<String, String>) -> Option<String> {
    match value.get("path").and_then(Value::as_str) {
        Some(path) => Some(normalise(&format!("{member}/{path}"))),
        None => paths.get(name).cloned(),
    }
}

/// `crates/llm/../contract/` → `crates/contract`.
fn normalise(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn line_of(file: &File, name: &str) -> usize {
    let declares = |line: &str| {
        line.trim_start().strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            || line.trim_end().ends_with(&format!("dependencies.{name}]"))
    };
    file.lines().find(|(_, line)| declares(line)).map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = r#"
[workspace.dependencies]
contract = { package = "forebay-contract", path = "crates/contract" }
admission = { package = "forebay-admission", path = "crates/admission" }
store = { package = "forebay-store", path = "crates/store" }
gateway = { package = "forebay-gateway", path = "crates/gateway" }
providers = { package = "forebay-providers", path = "engines/providers" }
testkit = { package = "forebay-testkit", path = "testkit" }
serde = "1"
"#;

    fn found(path: &str, manifest: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Tree::of(&[("Cargo.toml", ROOT), (path, manifest)]), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lower_layer_is_allowed() {
        let manifest = "[dependencies]\ncontract.workspace = true\nserde.workspace = true\n";
        assert_eq!(found("crates/store/Cargo.toml", manifest), Vec::<String>::new());
    }

    #[test]
    fn a_higher_layer_is_refused_at_its_line() {
        let found = found(
            "crates/store/Cargo.toml",
            "[dependencies]\nserde.workspace = true\ngateway.workspace = true\n",
        );
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with(
            "crates/store/Cargo.toml:3: crates/store depends on crates/gateway: it is in a higher"
        ));
    }

    #[test]
    fn a_sibling_is_refused_even_by_path_and_under_a_target() {
        let found = found(
            "crates/store/Cargo.toml",
            "[target.'cfg(unix)'.dependencies]\nadmission = { path = \"../admission\" }\n",
        );
        assert!(found[0].contains("siblings of one layer"), "{found:?}");
    }

    #[test]
    fn testkit_is_for_tests_and_for_the_binary() {
        assert!(found("crates/llm/Cargo.toml", "[dev-dependencies]\ntestkit.workspace = true\n").is_empty());
        assert!(found("bin/forebay/Cargo.toml", "[dependencies]\ntestkit.workspace = true\n").is_empty());
        assert_eq!(found("crates/llm/Cargo.toml", "[dependencies]\ntestkit.workspace = true\n").len(), 1);
    }

    #[test]
    fn an_engine_knows_neither_the_gateway_nor_another_engine() {
        assert!(found("engines/redis/Cargo.toml", "[dependencies]\nstore.workspace = true\n").is_empty());
        assert_eq!(found("engines/redis/Cargo.toml", "[dependencies]\ngateway.workspace = true\n").len(), 1);
        assert_eq!(
            found("engines/redis/Cargo.toml", "[dependencies]\nproviders.workspace = true\n").len(),
            1
        );
        assert_eq!(found("crates/llm/Cargo.toml", "[dependencies]\nproviders.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_refused() {
        assert!(found("crates/common/Cargo.toml", "")[0].contains("crates/common has no layer"));
    }

    #[test]
    fn a_heavy_dependency_stays_in_its_leaf_under_any_name() {
        assert_eq!(found("crates/gateway/Cargo.toml", "[dependencies]\nsqlx = \"0.9\"\n").len(), 1);
        assert_eq!(
            found(
                "crates/gateway/Cargo.toml",
                "[dependencies]\nsql = { package = \"sqlx\", version = \"0.9\" }\n"
            )
            .len(),
            1
        );
        assert!(found("crates/store/Cargo.toml", "[dependencies]\nsqlx.workspace = true\n").is_empty());
        assert_eq!(found("crates/contract/Cargo.toml", "[dependencies]\ntokio.workspace = true\n").len(), 1);
    }
}
