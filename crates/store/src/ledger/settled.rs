//! A record on its way into the database: the text that the journal holds, which is the text that the database keeps,
//! and what of it has a column of its own. The record is not built, and not encoded a second time.

use std::sync::Arc;

use contract::{
    AttemptRecord, Ending, EndpointName, KeyId, ModelName, Money, PipelineName, RequestId, RequestRecord,
    StageName, TenantId, UnixMillis, Usage, UserId,
};
use serde::{Deserialize, Deserializer};

use crate::Error;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    text: Arc<str>,
    columns: SettledColumns,
}

/// The parts of a [`RequestRecord`] that have columns of their own: the rest of the text is only looked at for its form.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SettledColumns {
    /// The request.
    pub id: RequestId,
    /// When it arrived.
    pub at: UnixMillis,
    /// Who pays.
    pub tenant: TenantId,
    /// With which key.
    #[serde(default)]
    pub key: Option<KeyId>,
    /// The end user.
    #[serde(default)]
    pub user: Option<UserId>,
    /// The pipeline.
    #[serde(default)]
    pub pipeline: Option<PipelineName>,
    /// The model asked for by a plain model call.
    #[serde(default)]
    pub model: Option<ModelName>,
    /// How long it took, in microseconds.
    pub total_us: u64,
    /// Tokens.
    pub usage: Usage,
    /// Money.
    pub cost: Money,
    attempts: Vec<SettledAttempt>,
    /// How it ended.
    pub ending: Ending,
    /// Read and let go: no other part may be nested so deep that the record could not be read again.
    #[serde(default, rename = "facts", deserialize_with = "readable")]
    _facts: (),
}

fn readable<'de, D: Deserializer<'de>>(d: D) -> Result<(), D::Error> {
    serde_json::Map::deserialize(d).map(drop)
}

/// The parts of an [`AttemptRecord`] that have columns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SettledAttempt {
    /// The stage.
    #[serde(default)]
    pub stage: Option<StageName>,
    /// The model asked for by a plain model call.
    pub model: ModelName,
    /// Where it was asked.
    pub endpoint: EndpointName,
    /// Tokens.
    pub usage: Usage,
    /// Money.
    pub cost: Money,
    /// How it ended.
    pub ending: Ending,
}

impl SettledColumns {
    fn of(r: &RequestRecord) -> Self {
        let attempt = |a: &AttemptRecord| SettledAttempt {
            stage: a.stage.clone(),
            model: a.model.clone(),
            endpoint: a.endpoint.clone(),
            usage: a.usage,
            cost: a.cost,
            ending: a.ending,
        };
        SettledColumns {
            id: r.id,
            at: r.at,
            tenant: r.tenant.clone(),
            key: r.key.clone(),
            user: r.user.clone(),
            pipeline: r.pipeline.clone(),
            model: r.model.clone(),
            total_us: r.total_us,
            usage: r.usage,
            cost: r.cost,
            attempts: r.attempts.iter().map(attempt).collect(),
            ending: r.ending,
            _facts: (),
        }
    }

    /// The attempts that need rows of their own. A call of one model that took one attempt is that attempt: its own row
    /// says all that sums ask for, and the record in it the rest.
    pub fn apart(&self) -> &[SettledAttempt] {
        match self.attempts.as_slice() {
            [a] if self.model.as_ref() == Some(&a.model) && (a.usage, a.cost) == (self.usage, self.cost) => {
                &[]
            }
            all => all,
        }
    }
}

impl Settled {
    /// Encodes a record.
    pub fn new(r: &RequestRecord) -> Result<Self, Error> {
        Ok(Settled { text: serde_json::to_string(r)?.into(), columns: SettledColumns::of(r) })
    }

    /// From the text of a record that any process wrote: fails unless all of it can be read.
    pub(super) fn read(text: &str) -> Result<Self, Error> {
        Ok(Settled { columns: SettledColumns::of(&serde_json::from_str(text)?), text: text.into() })
    }

    /// From the text of a record that this process wrote: fails when it is not JSON, or a column cannot be read.
    pub(super) fn read_own(text: &str) -> Result<Self, Error> {
        Ok(Settled { columns: serde_json::from_str(text)?, text: text.into() })
    }

    /// The request.
    pub fn id(&self) -> RequestId {
        self.columns.id
    }

    /// The record as JSON, as it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What of it has a column of its own.
    pub fn columns(&self) -> &SettledColumns {
        &self.columns
    }
}

#[cfg(test)]
mod tests {
    use contract::{Code, Surface};
    use proptest::prelude::*;

    use super::*;

    fn names<T>() -> impl Strategy<Value = contract::Name<T>> {
        ".{0,8}".prop_map(contract::Name::from)
    }

    fn amounts() -> impl Strategy<Value = (Usage, Money)> {
        any::<(u64, u64, u64, bool, i64)>().prop_map(|(input_tokens, output_tokens, n, estimated, cost)| {
            let usage =
                Usage { input_tokens, output_tokens, cached_input_tokens: n, reasoning_tokens: n, estimated };
            (usage, Money::from_nanos(cost))
        })
    }

    prop_compose! {
        fn attempts()(
            stage in proptest::option::of(names()),
            (model, endpoint, said) in (names(), names(), ".{0,8}"),
            (usage, cost) in amounts(),
            complete: bool,
        ) -> AttemptRecord {
            AttemptRecord {
                stage, ordinal: 1, number: 1, reason: None, model, instead_of: None, endpoint,
                model_version: Some(said.clone()), prompt_version: None, started_us: 1, queued_us: 2,
                first_token_us: None, ended_us: 3, usage, cost, finish_reason: None,
                ending: if complete { Ending::Complete } else { Ending::Failed },
                error: (!complete).then(|| contract::Error::new(Code::UpstreamError, said)),
            }
        }
    }

    prop_compose! {
        fn records()(
            (n, at, total_us) in any::<(u128, i64, u64)>(),
            tenant in names(),
            (key, user) in (proptest::option::of(names()), proptest::option::of(names())),
            (pipeline, model) in (proptest::option::of(names()), proptest::option::of(names())),
            (usage, cost) in amounts(),
            attempts in prop::collection::vec(attempts(), 0..3),
            fact in proptest::option::of(".{0,8}"),
        ) -> RequestRecord {
            RequestRecord {
                id: RequestId::from_parts(UnixMillis(5), n), at: UnixMillis(at), surface: Surface::Openai,
                tenant, key, user, pipeline, pipeline_version: None, model, stream: true, queued_us: 0,
                first_output_us: None, total_us, usage, cost, attempts, stages: Vec::new(),
                facts: fact.map(|f| (f.clone(), serde_json::json!([f, {"in": 1.5}]))).into_iter().collect(),
                ending: Ending::Partial, error: None,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_of_a_text_is_what_is_in_the_record(r in records()) {
            let new = Settled::new(&r).unwrap();
            prop_assert_eq!(&Settled::read(new.text()).unwrap(), &new);
            prop_assert_eq!(&Settled::read_own(new.text()).unwrap(), &new);
            prop_assert_eq!(serde_json::from_str::<RequestRecord>(new.text()).unwrap(), r);
        }
    }

    #[test]
    fn a_text_that_could_not_be_read_again_is_refused() {
        let deep = |n: usize| {
            let facts = format!("{}1{}", r#"{"a":"#.repeat(n), "}".repeat(n));
            let text = serde_json::to_string(&crate::ledger::entry::tests::admitted(1).lost()).unwrap();
            text.replacen("\"ending\"", &format!("\"facts\":{facts},\"ending\""), 1)
        };
        assert!(Settled::read_own(&deep(3)).is_ok());
        for text in [&*deep(300), "{}", r#"{"id":"torn"#] {
            assert!(Settled::read_own(text).is_err() && Settled::read(text).is_err());
        }
    }
}
