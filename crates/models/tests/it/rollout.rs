//! Rollouts: the way up, every way out, and what is promised on the way.

mod assign;
mod experiment;
mod machine;
mod properties;
mod releases;
mod sequential;
mod simulation;

use contract::UnixMillis;
use models::rollout::RolloutConfig;

pub(crate) fn minutes(n: i64) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + n * 60_000)
}

pub(crate) fn config(text: &str) -> RolloutConfig {
    let tree = yaml::spans::parse_plain(text, "").root.unwrap();
    serde_json::from_value(tree.to_json()).unwrap()
}
