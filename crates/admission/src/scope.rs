//! Whom a limit belongs to, and who is asking.
//!
//! A scope prints as the `limit_source` of an error: `key:ID`, `tenant:gold`, `model:writer`. End users are partitioned
//! by tenant: two tenants' users of the same name never share a counter.

use std::fmt;

use contract::{KeyId, ModelName, PipelineName, TenantId, UserId};

/// The owner of a limit or of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One API key.
    Key(KeyId),
    /// One end user of a tenant.
    User(TenantId, UserId),
    /// One tenant.
    Tenant(TenantId),
    /// One pipeline.
    Pipeline(PipelineName),
    /// One model.
    Model(ModelName),
}

impl Scope {
    /// Every kind of scope, as [`Scope::kind`] names it.
    pub const KINDS: [&str; 5] = ["key", "user", "tenant", "pipeline", "model"];

    /// What kind of owner it is: a closed set, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Scope::Key(_) => "key",
            Scope::User(..) => "user",
            Scope::Tenant(_) => "tenant",
            Scope::Pipeline(_) => "pipeline",
            Scope::Model(_) => "model",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Key(id) => write!(f, "key:{id}"),
            Scope::User(_, user) => write!(f, "user:{user}"),
            Scope::Tenant(id) => write!(f, "tenant:{id}"),
            Scope::Pipeline(name) => write!(f, "pipeline:{name}"),
            Scope::Model(name) => write!(f, "model:{name}"),
        }
    }
}

/// Who asks to enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The API key, unless the server runs without keys.
    pub key: Option<KeyId>,
    /// The end user that the caller named.
    pub user: Option<UserId>,
    /// The pipeline that is called, if any.
    pub pipeline: Option<PipelineName>,
}

impl Caller {
    /// A caller known by its tenant only.
    pub fn tenant(tenant: impl Into<TenantId>) -> Self {
        Caller { tenant: tenant.into(), key: None, user: None, pipeline: None }
    }
}
