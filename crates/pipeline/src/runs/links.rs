//! What a plan says of its stages' places: who is where, who waits for whom, who falls back on whom. Made once of a plan, so
//! that nothing later looks through all of it.

use std::collections::HashMap;

use contract::StageName;

use super::entry::{Contract, Plan, StagePlan};
use super::state::Here;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Links {
    places: HashMap<StageName, usize>,
    /// Who takes its output, for each stage.
    dependents: Vec<Vec<usize>>,
    /// Who falls back on it, for each stage.
    callers: Vec<Vec<usize>>,
    /// The group of each stage; 0 for those that have none.
    groups: Vec<usize>,
    names: Vec<String>,
    /// The places of each group that says so itself.
    places_of: Vec<Option<u32>>,
}

impl Links {
    pub(super) fn of(plan: &Plan) -> Links {
        let places: HashMap<StageName, usize> =
            plan.stages.iter().enumerate().map(|(at, s)| (s.name.clone(), at)).collect();
        let n = plan.stages.len();
        let (mut dependents, mut callers) = (vec![Vec::new(); n], vec![Vec::new(); n]);
        let (mut groups, mut names) = (Vec::with_capacity(n), Vec::<String>::new());
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut places_of = Vec::new();
        for (at, stage) in plan.stages.iter().enumerate() {
            for needed in &stage.after {
                if let Some(of) = places.get(needed).and_then(|p| dependents.get_mut(*p)) {
                    of.push(at);
                }
            }
            if let Contract::Fallback(other) = &stage.on_failure
                && let Some(of) = places.get(other).and_then(|p| callers.get_mut(*p))
            {
                of.push(at);
            }
            groups.push(match &stage.group {
                None => 0,
                Some(name) => *numbers.entry(name).or_insert_with(|| {
                    names.push(name.clone());
                    places_of.push(stage.places);
                    names.len()
                }),
            });
        }
        Links { places, dependents, callers, groups, names, places_of }
    }

    pub(super) fn place(&self, name: &StageName) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub(super) fn dependents(&self, at: usize) -> &[usize] {
        self.dependents.get(at).map_or(&[], Vec::as_slice)
    }

    pub(super) fn callers(&self, at: usize) -> &[usize] {
        self.callers.get(at).map_or(&[], Vec::as_slice)
    }

    pub(super) fn group(&self, at: usize) -> usize {
        self.groups.get(at).copied().unwrap_or(0)
    }

    /// How many groups there are, with that of the stages that have none.
    pub(super) fn groups(&self) -> usize {
        self.names.len() + 1
    }

    /// The numbers of the groups that have no place left.
    pub(super) fn full(&self, here: &Here) -> Vec<usize> {
        let full = |(name, own): (&String, &Option<u32>)| match here.groups.get(name) {
            _ if !here.grouped => true,
            Some(left) => *left == 0,
            None => own.is_some_and(|own| here.busy.get(name).is_some_and(|n| *n >= own as usize)),
        };
        let all = self.names.iter().zip(&self.places_of).enumerate();
        all.filter(|(_, of)| full(*of)).map(|(at, _)| at + 1).collect()
    }

    /// The places of the stages that a stage needs, in the order of the plan, each once.
    pub(super) fn needs(&self, stage: &StagePlan) -> Vec<usize> {
        let mut needs: Vec<usize> = stage.after.iter().filter_map(|name| self.place(name)).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }
}
