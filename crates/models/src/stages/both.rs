//! Two models asked the same rows: who wants to answer, and who answers now.

use std::sync::Arc;

use contract::UnixMillis;
use pipeline::task;
use store::tracking::ModelVersion;

use super::asked::Asked;
use super::candidate::{Candidate, parted};
use super::error::{crashed, predicted};
use super::evaluate::{Held, measured};
use super::job::Job;
use super::released::Released;
use crate::gate::{Case, Contender, GateConfig, Holdout, Lineage as MadeOf, Measured, ModelSignature};

/// A model's answers to the held-back rows, and what was measured of it.
pub(super) struct One {
    pub(super) rows: crate::evaluate::Rows,
    pub(super) measured: Measured,
    pub(super) signature: ModelSignature,
}

/// Challenger and champion, asked the same rows.
pub(super) struct Both {
    pub(super) challenger: One,
    pub(super) champion: Option<(Released, One)>,
}

impl Both {
    /// Asks both models the same rows.
    pub(super) async fn of(
        job: &Job<'_>,
        candidate: &Candidate,
        (champion, gate, held): (Option<&Released>, &GateConfig, &Arc<Held>),
    ) -> Result<Both, contract::Error> {
        let file = job.read(&candidate.model).await?;
        let (backend, clock, held) = (job.means.backend(), job.cx.clock.clone(), held.clone());
        let champion = champion.cloned();
        let slices = gate.slices.iter().flat_map(|s| &s.columns);
        let groups = gate.fairness.iter().flat_map(|f| &f.columns);
        let columns: Vec<String> = slices.chain(groups).cloned().collect();
        let work = move || {
            let columns: Vec<&String> = columns.iter().collect();
            let ask = |file: Vec<u8>, classes| {
                let asked = Asked::load(&*backend, file).map_err(|e| predicted(&e))?;
                let signature = asked.signature();
                let (rows, measured) = measured(asked, &held, classes, &columns, &*clock)?;
                Ok::<_, contract::Error>(One { rows, measured, signature })
            };
            let challenger = ask(file, held.record.classes.as_ref())?;
            let champion = match champion {
                None => None,
                Some(of) => {
                    let classes = of.record.as_ref().and_then(|r| r.classes.clone());
                    let asked = ask(of.file.to_vec(), classes.as_ref()).map_err(|e| contract::Error {
                        message: format!("version {} answers now, and {}", of.version.version, e.message),
                        ..e
                    })?;
                    Some((of, asked))
                }
            };
            Ok(Both { challenger, champion })
        };
        task::blocking("ask models", work).await.map_err(|e| crashed(&e))?
    }

    /// What a gate decides on.
    pub(super) fn case<'a>(&'a self, (name, version): (&str, &ModelVersion), held: &Held) -> Case<'a> {
        let contender = |id: String, of: &'a One, until, lineage| Contender {
            id,
            rows: &of.rows,
            trained_until: until,
            measured: of.measured,
            signature: Some(of.signature.clone()),
            lineage,
            kept: None,
        };
        let (dataset, content) = parted(&held.record.table);
        let record = &held.record;
        let id = format!("{name}/{}", version.version);
        let lineage = record.made_of.lineage();
        let champion = self.champion.as_ref().map(|(released, asked)| {
            let known = released.record.as_ref();
            let until = known.and_then(|r| r.trained_until);
            let lineage = known.map_or_else(MadeOf::new, |r| r.made_of.lineage());
            contender(format!("{name}/{}", released.version.version), asked, until, lineage)
        });
        Case {
            model: name.to_owned(),
            holdout: Holdout {
                dataset: dataset.to_owned(),
                version: content.to_owned(),
                from: held.frozen.between.map(|(from, _)| UnixMillis(from)),
                until: held.frozen.between.map(|(_, until)| UnixMillis(until)),
            },
            challenger: contender(id, &self.challenger, record.trained_until, lineage),
            champion,
            approvals: Vec::new(),
        }
    }
}
