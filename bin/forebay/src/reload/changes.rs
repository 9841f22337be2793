//! What is not as it was: entries of the file by their path, and files that it names.

use std::path::Path;

use crate::config::{Config, FILE};

use super::files::Files;

/// What another configuration changes, in the words of the file: `models.small: changed`.
pub(super) fn changes(old: &Config, new: &Config, before: &Files, after: &Files) -> Vec<String> {
    let mut all = Vec::new();
    entries("models", &old.models, &new.models, &mut all);
    entries("tenants", &old.tenants, &new.tenants, &mut all);
    entries("keys", &old.keys, &new.keys, &mut all);
    entries("pipelines", &old.pipelines, &new.pipelines, &mut all);
    entries("choices", &old.choices, &new.choices, &mut all);
    entries("prompts", &old.prompts, &new.prompts, &mut all);
    entries("datasets", &old.datasets, &new.datasets, &mut all);
    entries("capture", &old.capture, &new.capture, &mut all);
    entries("monitors", &old.monitors, &new.monitors, &mut all);
    let sections = [
        ("server", old.server != new.server),
        ("auth", old.auth != new.auth),
        ("each_user", old.each_user != new.each_user),
        ("warehouse", old.warehouse != new.warehouse),
        ("features", old.features != new.features),
        ("alerts", old.alerts != new.alerts),
        ("jobs", old.jobs != new.jobs),
        ("storage", old.storage != new.storage),
        ("runs", old.runs != new.runs),
        ("lineage", old.lineage != new.lineage),
        ("telemetry", old.telemetry != new.telemetry),
        ("prices", old.prices != new.prices),
    ];
    all.extend(
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| format!("{name}: changed")),
    );
    // The file itself is told entry by entry.
    let files = before.differences(after).filter(|(path, _)| *path != Path::new(FILE));
    all.extend(files.map(|(path, what)| format!("{}: {what}", path.display())));
    all
}

fn entries<'a, V: PartialEq + 'a>(
    section: &str,
    old: &'a indexmap::IndexMap<String, V>,
    new: &'a indexmap::IndexMap<String, V>,
    all: &mut Vec<String>,
) {
    for (name, v) in new {
        match old.get(name) {
            None => all.push(format!("{section}.{name}: added")),
            Some(before) if before != v => all.push(format!("{section}.{name}: changed")),
            Some(_) => {}
        }
    }
    all.extend(old.keys().filter(|n| !new.contains_key(*n)).map(|n| format!("{section}.{n}: removed")));
}

/// What the file says otherwise than a server that began with `began` can do. `listen`: whether the file says where it listens.
pub(super) fn needs_restart(began: &Config, new: &Config, listen: bool) -> Vec<String> {
    // Who only runs pipelines opens it anew for each.
    let warehouse =
        !(began.features.views.is_empty() && began.monitors.is_empty() && began.capture.is_empty());
    let fixed = [
        ("server.listen", listen && began.server.listen != new.server.listen),
        ("server.replay", began.server.replay != new.server.replay),
        ("telemetry.otlp", began.telemetry.otlp != new.telemetry.otlp),
        ("jobs", began.jobs != new.jobs),
        ("storage", began.storage != new.storage),
        ("runs", began.runs != new.runs),
        ("lineage", began.lineage != new.lineage),
        ("features", began.features != new.features),
        // Who looks at answers is named at the start.
        ("capture", began.capture.is_empty() != new.capture.is_empty()),
        ("warehouse", warehouse && began.warehouse != new.warehouse),
        ("telemetry.log", began.telemetry.log != new.telemetry.log),
    ];
    fixed.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> Config {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn changes_are_told_entry_by_entry_and_what_is_equal_is_not() {
        let model = |key: &str| serde_json::json!({"openai": "x", "api_key": key});
        let old = config(serde_json::json!({
            "models": {"same": model("a"), "gone": model("a"), "other": model("a")},
            "tenants": {"gold": {"weight": 2}},
        }));
        let new = config(serde_json::json!({
            "models": {"other": model("b"), "same": model("a"), "new": model("a")},
            "tenants": {"gold": {"weight": 3}},
            "server": {"drain": "5s"},
        }));
        let none = Files::default();
        let told = changes(&old, &new, &none, &none);
        let expected = [
            "models.other: changed", // another secret is another model
            "models.new: added",
            "models.gone: removed",
            "tenants.gold: changed",
            "server: changed",
        ];
        assert_eq!(told, expected);
        assert!(changes(&new, &new.clone(), &none, &none).is_empty());
    }

    #[test]
    fn what_is_bound_at_the_start_needs_a_restart_and_nothing_else_does() {
        let old = Config::default();
        let new = config(serde_json::json!({
            "server": {"listen": "127.0.0.1:9", "drain": "1s", "replay": {"keep": "1m"}},
            "telemetry": {"otlp": "http://c:4318", "log": "debug", "sample": 0.5},
        }));
        assert_eq!(
            needs_restart(&old, &new, true),
            ["server.listen", "server.replay", "telemetry.otlp", "telemetry.log"]
        );
        assert_eq!(needs_restart(&old, &new, false), ["server.replay", "telemetry.otlp", "telemetry.log"]);
        assert!(needs_restart(&new, &new.clone(), true).is_empty());
    }
}
