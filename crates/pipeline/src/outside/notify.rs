//! The kind `notify`: tells somebody, under an id that is the same for all attempts, so that a receiver knows a second message of
//! the same. The stage is done when the receiver has taken it; a run's retries bring it again until then.

use std::sync::Arc;
use std::time::Duration;

use contract::{
    Attempt, BoxFuture, Code, Context, Effort, Error, Inputs, Kind, Outcome, Signature, Stage, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::template::{Escape, Template, Values};
use super::{Asked, Outside, ask, host, problem, unexpected};
use crate::registry::{Problem, Site, StageKind, TextField};
use crate::runs::{Delivered, Message, Signed, signed_with};
use crate::word::Word;

/// The longest message, in bytes.
const LONGEST: usize = 16 << 10;
/// How long a receiver of Slack's form may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Tells somebody about the run: exactly one of `webhook`, `slack` and `log`. Its inputs are those that the message names as
/// `inputs.NAME`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NotifyConfig {
    /// An address that takes Standard Webhooks: a signed CloudEvent of the type `forebay.notice`.
    #[serde(default)]
    webhook: Option<String>,
    /// An incoming webhook of Slack, or of what takes the same (`{"text": …}`). The address is a secret: write `${SLACK_URL}`.
    #[serde(default)]
    slack: Option<String>,
    /// The log of the run and of the server.
    #[serde(default)]
    log: Option<Level>,
    /// What is said, a template over `run.id`, `pipeline`, `stage` and `inputs.NAME`.
    message: Word,
    /// Inputs that a template names otherwise, such as `inputs['two words']`.
    #[serde(default)]
    inputs: Vec<String>,
}

/// How loud it is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// For who looks.
    Info,
    /// Somebody should look.
    Warn,
    /// Somebody has to.
    Error,
}

/// To whom.
enum Channel {
    Webhook(String),
    Slack(String),
    Log(Level),
}

/// Makes `notify` stages.
pub struct NotifyKind {
    outside: Outside,
}

impl NotifyKind {
    /// Of these parts.
    pub fn new(outside: Outside) -> Self {
        NotifyKind { outside }
    }

    fn channel(&self, config: &NotifyConfig) -> Result<Channel, Problem> {
        let cannot = |pointer, why: String| {
            problem(pointer, format!("nothing can be brought there: {why}"), "correct the address")
        };
        match (&config.webhook, &config.slack, config.log) {
            (Some(url), None, None) => {
                let checked =
                    self.outside.webhooks.as_ref().map_or(Ok(()), |(deliver, _)| deliver.check(url));
                checked.map(|()| Channel::Webhook(url.clone())).map_err(|why| cannot("/webhook", why))
            }
            (None, Some(url), None) => {
                let checked = self.outside.call.as_ref().map_or(Ok(()), |call| call.check(url));
                checked.map(|()| Channel::Slack(url.clone())).map_err(|why| cannot("/slack", why))
            }
            (None, None, Some(level)) => Ok(Channel::Log(level)),
            _ => Err(problem("", "exactly one of `webhook`, `slack` and `log` is needed", "say who is told")),
        }
    }
}

impl StageKind for NotifyKind {
    fn name(&self) -> &'static str {
        "notify"
    }

    fn schema(&self) -> Json {
        schemars::schema_for!(NotifyConfig).to_value()
    }

    fn durable(&self) -> bool {
        true
    }

    fn templates(&self) -> &'static [TextField] {
        const { &[TextField::plain("message")] }
    }

    /// Who was told of another run was not told of this one.
    fn cached(&self, _: &Json) -> bool {
        false
    }

    fn build(&self, config: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
        let config = NotifyConfig::deserialize(config)
            .map_err(|e| vec![problem("", e.to_string(), "see the reference of `notify`")])?;
        let escape = if config.slack.is_some() { Escape::Slack } else { Escape::None };
        let message = Template::parse(&config.message.0, escape)
            .map_err(|e| problem("/message", e, "correct the template"));
        let inputs = message.and_then(|message| {
            let inputs = Template::inputs([&message].into_iter(), &config.inputs)
                .map_err(|e| problem("/inputs", e, "list them: `inputs: [rows]`"))?;
            Ok((message, inputs))
        });
        match (self.channel(&config), inputs) {
            (Ok(channel), Ok((message, inputs))) => {
                let output = Kind::Json(None);
                let signature =
                    Signature { inputs, output, streams: false, instant: false, effort: Effort::Waits };
                Ok(Arc::new(Notify { outside: self.outside.clone(), channel, message, signature }))
            }
            (channel, inputs) => Err(channel.err().into_iter().chain(inputs.err()).collect()),
        }
    }
}

struct Notify {
    outside: Outside,
    channel: Channel,
    message: Template,
    signature: Signature,
}

impl Notify {
    async fn tell(&self, cx: &Context, inputs: Inputs) -> Result<Value, Error> {
        let Some(attempt) = &cx.attempt else {
            let m = "a stage of the kind `notify` runs in a durable run only: start this pipeline by `forebay run`";
            return Err(Error::new(Code::InvalidRequest, m));
        };
        let text =
            self.message.render(cx, &Values { named: &self.signature.inputs, given: &inputs }, LONGEST)?;
        let id = id(&attempt.effect);
        let (channel, told) = match &self.channel {
            Channel::Webhook(url) => ("webhook", self.webhook(cx, attempt, url, &id, &text).await),
            Channel::Slack(url) => ("slack", self.slack(url, &id, &text).await),
            Channel::Log(level) => {
                log(*level, attempt, &text);
                ("log", Ok(()))
            }
        };
        let to = match &self.channel {
            Channel::Webhook(url) | Channel::Slack(url) => host(url),
            Channel::Log(_) => "log",
        };
        match &told {
            Ok(()) => attempt.log.line(&format!("told {to}: {text}")),
            Err(e) => attempt.log.line(&format!("did not tell {to}: {e}")),
        }
        told?;
        Ok(Value::Json(json!({"channel": channel, "id": id, "message": text}).into()))
    }

    async fn slack(&self, url: &str, id: &str, text: &str) -> Result<(), Error> {
        let headers = [("content-type", "application/json"), ("idempotency-key", id)];
        let asked = Asked {
            method: "POST",
            url: url.to_owned(),
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            body: json!({"text": text}).to_string().into_bytes(),
            timeout: TIMEOUT,
            at_most: LONGEST,
        };
        ask(self.outside.call.as_ref(), asked, |s| (200..300).contains(&s)).await.map(drop)
    }

    async fn webhook(
        &self,
        cx: &Context,
        attempt: &Attempt,
        url: &str,
        id: &str,
        text: &str,
    ) -> Result<(), Error> {
        let Some((deliver, store)) = &self.outside.webhooks else {
            return Err(Error::new(Code::Internal, "nobody is there who could bring a webhook"));
        };
        let secret = store.secret(&cx.tenant).await.map_err(|e| {
            Error::new(Code::StorageUnavailable, format!("the secret of a webhook cannot be read: {e}"))
        })?;
        // It begins as a CloudEvent does. Without a time: it is the same message whenever it is brought.
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/v1/pipelines/{}", attempt.pipeline),
            "type": "forebay.notice",
            "subject": attempt.run,
            "datacontenttype": "application/json",
            "data": {
                "message": text, "run": attempt.run, "pipeline": attempt.pipeline,
                "stage": cx.stage.as_ref().map(|s| s.as_str()),
            },
        });
        let message = Message {
            id: id.to_owned(),
            tenant: cx.tenant.clone(),
            signed: Signed::Tenant(signed_with(secret, cx.clock.wall())),
            url: url.to_owned(),
            body: event.to_string().into_bytes(),
        };
        match deliver.deliver(message).await {
            Delivered::Answer { status: 200..=299, .. } => Ok(()),
            Delivered::Answer { status, retry_after } => Err(unexpected(status, retry_after)),
            Delivered::Unreachable(why) => Err(Error::new(Code::UpstreamUnreachable, why)),
            Delivered::Forbidden(why) => {
                Err(Error::new(Code::Forbidden, format!("nothing can be brought there: {why}")))
            }
        }
    }
}

/// The id of a message: equal for all attempts at the same effect, and no more to be guessed than that.
fn id(effect: &str) -> String {
    let hash = blake3::derive_key("forebay notify 2026 message id", effect.as_bytes());
    let half: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("msg_{half}")
}

fn log(level: Level, attempt: &Attempt, text: &str) {
    let (run, pipeline) = (attempt.run, &attempt.pipeline);
    match level {
        Level::Info => tracing::info!(%run, %pipeline, "notice: {text:?}"),
        Level::Warn => tracing::warn!(%run, %pipeline, "notice: {text:?}"),
        Level::Error => tracing::error!(%run, %pipeline, "notice: {text:?}"),
    }
}

impl Stage for Notify {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run<'a>(&'a self, cx: &'a Context, inputs: Inputs) -> BoxFuture<'a, Outcome<Value>> {
        Box::pin(async move { self.tell(cx, inputs).await.into() })
    }
}
