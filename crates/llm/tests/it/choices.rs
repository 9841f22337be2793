//! A name that several models answer to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use contract::{Code, Context, Error, ModelName};
use llm::{CHOICES, Choice, Chooser, Chosen};
use serde_json::json;

use crate::cache::{asker, request};
use crate::call::{World, whole, world};

/// Says another model each time it is asked, and for some nothing at all.
#[derive(Default)]
struct Turning(AtomicUsize);

impl Chooser for Turning {
    fn choose(&self, who: &str) -> Result<Option<Chosen>, Error> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let option = ["large", "gone"][n % 2].to_owned();
        match who {
            "nobody" => Err(Error::new(Code::Overloaded, "out of service")),
            "new" => Ok(None),
            _ => Ok(Some(Chosen { option, note: json!({"version": "2"}) })),
        }
    }
}

fn chosen() -> (World, ModelName) {
    let says = |text: &str| (0..4).map(|_| whole(text)).collect();
    let w = world(says("writer"), says("large"));
    let settings = |name: &str| {
        let name = ModelName::from(name);
        let settings = w.models.get(&name).unwrap();
        (name, (*settings).clone())
    };
    let options = vec!["writer".into(), "large".into()];
    let choice = Choice { options, chooser: Arc::new(Turning::default()) };
    w.models.prepare_with([settings("writer"), settings("large")], [("voice".into(), choice)]);
    (w, "voice".into())
}

async fn says(w: &World, name: &ModelName, cx: &Context) -> Result<String, Error> {
    Ok(w.models.call(name, request("hello"), cx).await?.collect().await?.text)
}

#[tokio::test(start_paused = true)]
async fn a_choice_is_made_once_for_a_request_and_noted() {
    let (w, voice) = chosen();
    let one = asker(&w, 1);
    assert_eq!(says(&w, &voice, &one).await.unwrap(), "large");
    assert_eq!(says(&w, &voice, &one).await.unwrap(), "large", "the chooser would say another now");
    assert_eq!(one.meter.facts()[CHOICES], json!({"voice": {"model": "large", "version": "2"}}));
    let (_, attempts, ..) = one.meter.take();
    assert!(attempts.iter().all(|a| a.model.as_str() == "large"), "records name who answered");
}

#[tokio::test(start_paused = true)]
async fn without_a_word_or_with_one_for_nobody_the_first_answers() {
    let (w, voice) = chosen();
    let new = Context { user: Some("new".into()), ..asker(&w, 1) };
    assert_eq!(says(&w, &voice, &new).await.unwrap(), "writer");
    assert_eq!(new.meter.facts()[CHOICES], json!({"voice": {"model": "writer"}}));
    // The second word was for a model that is none of them.
    assert_eq!(says(&w, &voice, &asker(&w, 2)).await.unwrap(), "writer");
    let nobody = Context { user: Some("nobody".into()), ..asker(&w, 3) };
    assert_eq!(says(&w, &voice, &nobody).await.unwrap_err().code, Code::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn a_choice_holds_no_more_than_the_least_of_its_models_and_costs_the_most() {
    let (w, voice) = chosen();
    let settings = w.models.get(&voice).unwrap();
    assert_eq!((settings.context_window, settings.endpoints.len()), (Some(1_000), 0));
    assert_eq!(w.models.dearest(&voice), w.models.dearest(&"writer".into()));
    assert!(w.models.names().contains(&voice));
    assert_eq!(w.models.behind(&voice), ["writer".into(), "large".into()]);
    assert_eq!(w.models.behind(&"large".into()), ["large".into()]);
}
