//! A prediction as observers see it: put together behind the run, and only when somebody looks.

use std::sync::Arc;
use std::time::Duration;

use contract::{Code, RequestId, TenantId};
use predict::observe::{Answered, Arm, NamedTensor, Place};
use predict::served::Version;
use predict::{Field, Tensor};

use crate::app::App;

/// What is known of a call before its run, kept for those who look.
pub(super) struct Looked {
    id: RequestId,
    tenant: TenantId,
    entity: Option<Arc<str>>,
    arm: Arm,
    place: Option<Place>,
    inputs: Arc<[NamedTensor]>,
}

/// Who is asked, for which side, about whom.
pub(super) struct Side<'a> {
    pub(super) id: RequestId,
    pub(super) tenant: &'a TenantId,
    pub(super) entity: Option<&'a str>,
    pub(super) arm: Arm,
    pub(super) place: Option<Place>,
}

fn named<'a>(fields: impl Iterator<Item = (&'a Field, &'a Tensor)>) -> Arc<[NamedTensor]> {
    let one = |(field, tensor): (&Field, &Tensor)| NamedTensor {
        name: field.name.as_str().into(),
        tensor: tensor.clone(),
    };
    fields.map(one).collect()
}

/// Nothing when nobody looks: then nothing is copied.
pub(super) fn before(app: &App, side: Side<'_>, version: &Version, inputs: &[Tensor]) -> Option<Looked> {
    let observers = app.observers();
    let looks = observers.any() && observers.look_at(&version.model, &side.id.to_string());
    looks.then(|| Looked {
        id: side.id,
        tenant: side.tenant.clone(),
        entity: side.entity.map(Into::into),
        arm: side.arm,
        place: side.place,
        inputs: named(version.batcher.signature().inputs.iter().zip(inputs)),
    })
}

impl Looked {
    /// Hands it over. Does not wait.
    pub(super) fn after(
        self,
        app: &App,
        version: &Version,
        took: Duration,
        came: Result<(&[usize], &[Tensor]), Code>,
    ) {
        let fields = &version.batcher.signature().outputs;
        let (outputs, error) = match came {
            Ok((places, outputs)) => {
                let of = places.iter().filter_map(|at| fields.get(*at));
                (named(of.zip(outputs)), None)
            }
            Err(code) => (Arc::from([]), Some(code)),
        };
        let Looked { id, tenant, entity, arm, place, inputs } = self;
        app.observers().answered(Answered {
            id: id.to_string().into(),
            at: app.inner.clock.wall(),
            took,
            tenant,
            model: version.model.clone(),
            registered: version.registered.clone(),
            version: version.version.clone(),
            arm,
            place,
            entity,
            inputs,
            outputs,
            figures: Arc::default(),
            words: Arc::default(),
            error,
        });
    }
}
