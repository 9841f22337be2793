//! Who answers whom, as the state of the rollouts says and as far as versions are in memory here.

use std::collections::BTreeSet;
use std::sync::Arc;

use models::rollout::{self, Releases};
use predict::observe::{Arm, Place};
use predict::served::{Routed, Router};

/// See the module.
pub(super) struct Table {
    pub(super) releases: Releases,
    /// Versions that are in memory here.
    pub(super) loaded: BTreeSet<String>,
}

impl Table {
    /// Versions that get a copy of what the champion answers.
    pub(super) fn shadows(&self) -> impl Iterator<Item = &str> {
        let all = self.releases.rollouts().iter().filter(|r| r.shadows()).map(rollout::Rollout::challenger);
        all.filter(|version| self.loaded.contains(*version))
    }
}

/// The way of a request's entity.
pub(super) struct Way(pub(super) Arc<Table>);

impl Router for Way {
    fn route(&self, entity: &str) -> Option<Routed> {
        let Table { releases, loaded } = &*self.0;
        let canary = releases.rollouts().iter().find(|r| r.split().canary > 0);
        // Without both of them here nobody can be compared: whoever is served answers.
        let canary = canary.filter(|r| loaded.contains(r.challenger()));
        let Some(canary) = canary else {
            let version = Some(releases.champion()).filter(|v| loaded.contains(*v))?;
            return Some(Routed { version: version.into(), arm: Arm::Champion, place: None });
        };
        let route = releases.route(entity);
        if !loaded.contains(route.version) {
            return None;
        }
        let arm = match route.arm {
            rollout::Arm::Canary => Arm::Canary,
            rollout::Arm::Control => Arm::Control,
            rollout::Arm::Champion => Arm::Champion,
        };
        let place = Some(Place { challenger: canary.challenger().into(), step: route.step });
        Some(Routed { version: route.version.into(), arm, place })
    }
}
