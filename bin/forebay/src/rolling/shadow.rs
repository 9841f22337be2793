//! Copies of requests for versions that are not heard: one at a time for each model, behind the answers, dropped when there are too many.
//!
//! A copy has no side effects: its answer is compared with the champion's and seen by observers, and nobody else gets it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use contract::{Clock, Code, Deadline};
use models::rolling::{agree, said_of};
use pipeline::task::{self, Task};
use predict::observe::{Answered, Arm, NamedTensor, Observers, Place};
use predict::protocol::Input;
use predict::served::Version;
use predict::{Models, Tensor};
use tokio::sync::mpsc;

use super::OfModel;

/// Copies that wait.
const WAITING: usize = 256;
/// How long a copy may take.
const LONGEST: Duration = Duration::from_secs(5);

/// A request that a version is to be asked, which the champion has answered.
pub(super) struct Copy {
    pub(super) challenger: Arc<str>,
    pub(super) answered: Arc<Answered>,
}

/// Starts the task of a model.
pub(super) fn start(
    models: Models,
    observers: Observers,
    of: Weak<OfModel>,
    clock: &Arc<dyn Clock>,
) -> (mpsc::Sender<Copy>, Task<()>) {
    let (copies, mut waiting) = mpsc::channel::<Copy>(WAITING);
    let clock = clock.clone();
    let work = async move {
        while let Some(copy) = waiting.recv().await {
            let Some(of) = of.upgrade() else { return };
            let found = models.peek(&of.name, &copy.challenger);
            let Some(version) = found.ok().flatten() else { continue };
            let begun = clock.now();
            let came = ask(&version, &copy.answered, &*clock).await;
            let took = clock.now().since(begun);
            if let Ok(outputs) = &came {
                let (own, other) = (said_of(outputs), said_of(&copy.answered.outputs));
                let all = own.len() == other.len() && own.iter().zip(&other).all(|(a, b)| agree(a, b));
                of.collector.lock().compared(&copy.challenger, all);
            }
            observers.answered(told(&copy, &version, (took, clock.wall()), came));
        }
    };
    (copies, task::spawn("shadow", work))
}

/// Asks a version what the champion was asked, for the same outputs.
async fn ask(version: &Version, of: &Answered, clock: &dyn Clock) -> Result<Vec<NamedTensor>, Code> {
    let wrong = |e: predict::Error| contract::Error::from(e).code;
    let signature = version.batcher.signature();
    let takes = |name: &str| signature.inputs.iter().any(|f| f.name == name);
    let input = |i: &NamedTensor| Input { name: i.name.to_string().into(), tensor: i.tensor.clone() };
    let inputs = of.inputs.iter().filter(|i| takes(&i.name)).map(input).collect();
    let inputs: Vec<Tensor> = signature.bind(inputs).map_err(wrong)?;
    let names = of.outputs.iter().map(|o| o.name.clone());
    let places: Arc<[usize]> =
        names.clone().map(|name| signature.output(&name)).collect::<Result<_, _>>().map_err(wrong)?;
    let deadline = Deadline::from_now(clock.now(), LONGEST);
    let done = version.batcher.run(inputs, places, deadline).await.map_err(wrong)?;
    Ok(names.zip(done.outputs).map(|(name, tensor)| NamedTensor { name, tensor }).collect())
}

fn told(
    copy: &Copy,
    version: &Version,
    (took, at): (Duration, contract::UnixMillis),
    came: Result<Vec<NamedTensor>, Code>,
) -> Answered {
    let (outputs, error) = match came {
        Ok(outputs) => (outputs.into(), None),
        Err(code) => (Arc::from([]), Some(code)),
    };
    Answered {
        at,
        took,
        version: version.version.clone(),
        arm: Arm::Shadow,
        place: Some(Place { challenger: copy.challenger.clone(), step: None }),
        outputs,
        figures: Arc::default(),
        words: Arc::default(),
        error,
        ..Answered::clone(&copy.answered)
    }
}
