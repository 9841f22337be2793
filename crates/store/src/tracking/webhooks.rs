//! Webhooks of the registry: who is told of what happens to registered models and prompts.
//!
//! What is told is in the outbox ([`crate::RunStore::deliveries_due`]) by the transaction that changes the registry: nothing is told
//! that did not happen, and nothing that happened is forgotten [test: what_happened_is_told_and_what_was_refused_is_not]. Of a
//! tenant its own webhooks are told alone. A message that was delivered or given up is removed: nobody asks for it. Removing or
//! disabling a webhook removes what waits for it.
//!
//! A secret comes in sealed and goes out sealed: what it is, this does not know.

use contract::RunId;

use super::events::{Event, Happened, bits, of_bits};
use super::sql::{Dialect, Row, Statement};
use super::{Page, Refused, SqlTx, TenantTracking, is_prompt, run};
use crate::{Error, os_random, receiver};

/// How many a tenant may have: each change of the registry is told to all of them at most.
pub const MOST_WEBHOOKS: i64 = 100;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryWebhook {
    /// A UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where messages go.
    pub url: String,
    /// What it is told of, by name.
    pub events: Vec<Event>,
    /// For people; may be empty.
    pub description: String,
    /// Whether it is told.
    pub active: bool,
    /// What messages are signed with, sealed; without one they are not signed.
    pub secret: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// When it was changed.
    pub updated_at: i64,
}

/// What is to be a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRegistryWebhook {
    /// Fresh. It is what its messages are about, where others are about a run.
    pub id: [u8; 16],
    /// For people.
    pub name: String,
    /// Where messages go.
    pub url: String,
    /// What it is told of.
    pub events: Vec<Event>,
    /// For people.
    pub description: String,
    /// Whether it is told.
    pub active: bool,
    /// Sealed.
    pub secret: Option<String>,
}

/// What changes of a webhook; nothing stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebhookUpdate {
    /// Its name.
    pub name: Option<String>,
    /// Where messages go, also those that wait.
    pub url: Option<String>,
    /// What it is told of.
    pub events: Option<Vec<Event>>,
    /// For people.
    pub description: Option<String>,
    /// Whether it is told.
    pub active: Option<bool>,
    /// Sealed, or none any more.
    pub secret: Option<Option<String>>,
}

const COLUMNS: &str =
    "w.id, w.name, w.url, w.events, w.description, w.status, w.secret, w.created_at, w.updated_at";

fn status(active: bool) -> &'static str {
    if active { "ACTIVE" } else { "DISABLED" }
}

fn webhook(row: &Row) -> Result<RegistryWebhook, Error> {
    Ok(RegistryWebhook {
        id: row.text(0)?,
        name: row.text(1)?,
        url: row.text(2)?,
        events: of_bits(row.int(3)?),
        description: row.text(4)?,
        active: row.str(5)? == status(true),
        secret: row.maybe_text(6)?,
        created_at: row.int(7)?,
        updated_at: row.int(8)?,
    })
}

fn missing(id: &str) -> Error {
    Refused::missing(format!("Webhook with ID {id} not found.")).into()
}

/// A UUID as MLflow writes one.
pub fn webhook_id(id: [u8; 16]) -> String {
    let hex = RunId::from_bytes(id).serial();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

impl TenantTracking<'_> {
    /// Makes a webhook.
    ///
    /// # Errors
    /// [`Why::Invalid`](super::Why::Invalid) when the tenant has [`MOST_WEBHOOKS`].
    pub async fn create_webhook(&self, new: &NewRegistryWebhook, now: i64) -> Result<RegistryWebhook, Error> {
        let id = webhook_id(new.id);
        let mut tx = self.change().await?;
        let mut s = Statement::new("SELECT COUNT(*) FROM ml_webhooks WHERE tenant = ");
        s.bind(self.tenant());
        if run(&mut *tx, s).await?.first().map(|r| r.int(0)).transpose()?.unwrap_or(0) >= MOST_WEBHOOKS {
            return Err(Refused::invalid(format!(
                "There are {MOST_WEBHOOKS} webhooks already: no more may be made."
            ))
            .into());
        }
        let mut s = Statement::new(
            "INSERT INTO ml_webhooks (tenant, id, about, name, url, receiver, events, description, status, secret, \
             created_at, updated_at) VALUES (",
        );
        let about = s.bind(self.tenant()).push(", ").bind(&id).push(", ").place(&id);
        s.push(&self.db().dialect().uuid(&about)).push(", ").bind(&new.name).push(", ").bind(&new.url);
        s.push(", ").bind(receiver(&new.url)).push(", ").bind(bits(&new.events)).push(", ");
        s.bind(&new.description).push(", ").bind(status(new.active)).push(", ").bind(&new.secret);
        s.push(", ").bind(now).push(", ").bind(now).push(")");
        run(&mut *tx, s).await?;
        tx.commit().await?;
        self.webhook(&id).await
    }

    /// A webhook.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn webhook(&self, id: &str) -> Result<RegistryWebhook, Error> {
        let mut s = Statement::new(format!("SELECT {COLUMNS} FROM ml_webhooks w WHERE w.tenant = "));
        s.bind(self.tenant()).push(" AND w.id = ").bind(id);
        self.read(s).await?.first().map_or_else(|| Err(missing(id)), webhook)
    }

    /// Those there are, the newest first, `most` from `from` on.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn webhooks(&self, from: u64, most: u64) -> Result<Page<RegistryWebhook>, Error> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut s = Statement::new(format!("SELECT {COLUMNS} FROM ml_webhooks w WHERE w.tenant = "));
        s.bind(self.tenant()).push(" ORDER BY w.created_at DESC, w.num DESC LIMIT ");
        s.bind(number(most.saturating_add(1))).push(" OFFSET ").bind(number(from));
        let found = self.read(s).await?.iter().map(webhook).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, from, most))
    }

    /// Changes a webhook. What waits goes to the new address, and nowhere when it is not told any more.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn update_webhook(
        &self,
        id: &str,
        update: &WebhookUpdate,
        now: i64,
    ) -> Result<RegistryWebhook, Error> {
        let mut tx = self.change().await?;
        self.find_webhook(&mut *tx, id).await?;
        if update.active == Some(false) {
            self.forget(&mut *tx, id).await?;
        } else if let Some(url) = &update.url {
            let mut s = Statement::new("UPDATE deliveries SET url = ");
            s.bind(url).push(", receiver = ").bind(receiver(url)).push(", next_at = ").bind(now);
            s.push(" WHERE next_at IS NOT NULL AND run = ");
            self.about(&mut s, id);
            run(&mut *tx, s).await?;
            tx.tell().await?;
        }
        let mut s = Statement::new("UPDATE ml_webhooks SET updated_at = ");
        s.bind(now);
        if let Some(name) = &update.name {
            s.push(", name = ").bind(name);
        }
        if let Some(url) = &update.url {
            s.push(", url = ").bind(url).push(", receiver = ").bind(receiver(url));
        }
        if let Some(events) = &update.events {
            s.push(", events = ").bind(bits(events));
        }
        if let Some(description) = &update.description {
            s.push(", description = ").bind(description);
        }
        if let Some(active) = update.active {
            s.push(", status = ").bind(status(active));
        }
        if let Some(secret) = &update.secret {
            s.push(", secret = ").bind(secret);
        }
        s.push(" WHERE tenant = ").bind(self.tenant()).push(" AND id = ").bind(id);
        run(&mut *tx, s).await?;
        tx.commit().await?;
        self.webhook(id).await
    }

    /// Removes a webhook, and what waits for it.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn delete_webhook(&self, id: &str) -> Result<(), Error> {
        let mut tx = self.change().await?;
        self.find_webhook(&mut *tx, id).await?;
        self.forget(&mut *tx, id).await?;
        let mut s = Statement::new("DELETE FROM ml_webhooks WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        run(&mut *tx, s).await?;
        tx.commit().await
    }

    async fn find_webhook(&self, tx: &mut dyn SqlTx, id: &str) -> Result<(), Error> {
        let mut s = Statement::new("SELECT id FROM ml_webhooks WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        run(tx, s).await?.first().map(drop).ok_or_else(|| missing(id))
    }

    /// Removes what waits for a webhook.
    async fn forget(&self, tx: &mut dyn SqlTx, id: &str) -> Result<(), Error> {
        let mut s = Statement::new("DELETE FROM deliveries WHERE run = ");
        self.about(&mut s, id);
        run(tx, s).await.map(drop)
    }

    /// Appends what the messages of a webhook are about.
    fn about(&self, s: &mut Statement, id: &str) {
        s.push("(SELECT about FROM ml_webhooks WHERE tenant = ").bind(self.tenant());
        s.push(" AND id = ").bind(id).push(")");
    }

    /// Puts a message for each webhook that listens into the outbox, with the change that it tells of. `registered` is the number
    /// of the model that it happened to. Where nobody listens that is one look at an index.
    pub(super) async fn tell(
        &self,
        tx: &mut dyn SqlTx,
        registered: i64,
        what: Happened<'_>,
        now: i64,
    ) -> Result<(), Error> {
        let prompt = "EXISTS (SELECT 1 FROM ml_registered_tags t WHERE t.key = 'mlflow.prompt.is_prompt' AND \
                      LOWER(t.value) = 'true' AND t.registered = ";
        let mut s = Statement::new("SELECT CASE WHEN ");
        s.push(prompt).bind(registered).push(") THEN 1 ELSE 0 END FROM ml_webhooks w WHERE ");
        self.listening(&mut s, what.either());
        s.push(" LIMIT 1");
        let Some(first) = run(tx, s).await?.first().map(|r| r.int(0)).transpose()? else { return Ok(()) };
        // A version says of itself what it is.
        let prompt = match what {
            Happened::Version(new, _) => is_prompt(&new.tags),
            _ => first != 0,
        };
        let Some(event) = what.event(prompt) else { return Ok(()) };
        let mut fresh = [0; 16];
        os_random(&mut fresh)?;
        let mut s = Statement::new(
            "INSERT INTO deliveries (id, run, tenant, url, body, state, created_at, next_at, tries, receiver) SELECT CAST(",
        );
        let body = s
            .bind(format!("msg_{}_", RunId::from_bytes(fresh).serial()))
            .push(" AS TEXT) || w.num, w.about, w.tenant, w.url, ")
            .place(event.message(now, &what.data(prompt)));
        s.push(&self.db().dialect().bytes(&body)).push(", 'waiting', CAST(").bind(now);
        s.push(" AS BIGINT), CAST(").bind(now).push(" AS BIGINT), 0, w.receiver FROM ml_webhooks w WHERE ");
        self.listening(&mut s, bits(&[event]));
        s.push(" RETURNING tries");
        if !run(tx, s).await?.is_empty() {
            tx.tell().await?;
        }
        Ok(())
    }

    /// Appends a condition on webhooks `w`: the tenant's that are told of one of these events.
    fn listening(&self, s: &mut Statement, events: i64) {
        s.push("w.tenant = ").bind(self.tenant()).push(" AND w.status = 'ACTIVE' AND (w.events & ");
        s.bind(events).push(") <> 0");
    }
}

impl Dialect {
    /// The bytes of a text.
    fn bytes(self, place: &str) -> String {
        match self {
            Dialect::Sqlite => format!("CAST({place} AS BLOB)"),
            Dialect::Postgres => format!("convert_to({place}, 'UTF8')"),
        }
    }

    /// The 16 bytes of a UUID's text.
    fn uuid(self, place: &str) -> String {
        match self {
            Dialect::Sqlite => format!("unhex({place}, '-')"),
            Dialect::Postgres => format!("decode(replace({place}, '-', ''), 'hex')"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_in_its_plain_form() {
        let id = webhook_id(std::array::from_fn(|n| u8::try_from(n).unwrap() * 17));
        assert_eq!(id, "00112233-4455-6677-8899-aabbccddeeff");
    }
}
