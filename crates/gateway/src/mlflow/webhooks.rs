//! Webhooks of the registry over the wire: who is told of what happens to registered models and prompts.
//!
//! A secret comes in, is sealed at once, and never goes out.

use std::sync::Arc;

use ::models::check;
use contract::{BoxFuture, Secret};
use http::Method;
use pipeline::runs::{Deliver, Delivered, Message, Signed};
use serde::Serialize;
use serde_json::{Value as Json, json};
use store::tracking::{Event, NewRegistryWebhook, Page, RegistryWebhook, WebhookUpdate, webhook_id};

use super::asked::{Asked, int};
use super::errors::Failed;
use super::schema::{Field, Sort, check, may, must, wrong};
use super::search::{offset, token};
use super::{Answer, Cx, done, json};

/// On a page, and at most.
const PAGE: i64 = 100;
const MOST: i64 = 1_000;

/// Names of what is told of, by their numbers in the protocol.
const ENTITIES: [&str; 10] = [
    "registered_model",
    "model_version",
    "model_version_tag",
    "model_version_alias",
    "prompt",
    "prompt_version",
    "prompt_tag",
    "prompt_version_tag",
    "prompt_alias",
    "budget_policy",
];
const ACTIONS: [&str; 5] = ["created", "updated", "deleted", "set", "exceeded"];
const STATES: [&str; 2] = ["ACTIVE", "DISABLED"];

#[derive(Serialize)]
struct EventWire {
    entity: String,
    action: String,
}

#[derive(Serialize)]
struct WebhookWire<'a> {
    webhook_id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    url: &'a str,
    events: Vec<EventWire>,
    status: &'static str,
    creation_timestamp: i64,
    last_updated_timestamp: i64,
}

impl<'a> From<&'a RegistryWebhook> for WebhookWire<'a> {
    fn from(w: &'a RegistryWebhook) -> Self {
        let event = |e: &Event| EventWire {
            entity: e.entity.to_ascii_uppercase(),
            action: e.action.to_ascii_uppercase(),
        };
        WebhookWire {
            webhook_id: &w.id,
            name: &w.name,
            description: &w.description,
            url: &w.url,
            events: w.events.iter().map(event).collect(),
            status: if w.active { "ACTIVE" } else { "DISABLED" },
            creation_timestamp: w.created_at,
            last_updated_timestamp: w.updated_at,
        }
    }
}

fn one(w: &RegistryWebhook) -> Answer {
    json(&json!({"webhook": WebhookWire::from(w)}))
}

/// Who answers for `webhooks` and what is below.
pub(super) fn handler<'a>(cx: &'a Cx, method: &Method, below: &'a str) -> Option<BoxFuture<'a, Answer>> {
    let (id, rest) = match below.split_once('/') {
        Some((id, rest)) => (id, Some(rest)),
        None => (below, None),
    };
    match (method.as_str(), id, rest) {
        ("GET", "", None) => Some(Box::pin(list(cx))),
        ("POST", "", None) => Some(Box::pin(create(cx))),
        (_, "", _) => None,
        ("GET", id, None) => Some(Box::pin(get(cx, id))),
        ("PATCH", id, None) => Some(Box::pin(update(cx, id))),
        ("DELETE", id, None) => Some(Box::pin(delete(cx, id))),
        ("POST", id, Some("test")) => Some(Box::pin(test(cx, id))),
        _ => None,
    }
}

/// Who brings what is told.
fn sender(cx: &Cx) -> Result<Arc<dyn Deliver>, Failed> {
    let sender = cx.app.jobs().and_then(crate::jobs::Jobs::sender);
    sender.ok_or_else(|| Failed::unsupported("This server tells nobody of anything: it has no webhooks"))
}

/// A name of a list, or its number there.
fn named<'a>(said: Option<&Json>, names: &[&'a str]) -> Option<&'a str> {
    let said = said?;
    let by_number = || int(said).and_then(|n| names.get(usize::try_from(n).ok()?.checked_sub(1)?)).copied();
    match said.as_str() {
        // As the protocol writes it.
        Some(text) => names.iter().find(|name| name.to_ascii_uppercase() == text).copied().or_else(by_number),
        None => by_number(),
    }
}

/// What is told of.
fn event(said: &Json) -> Result<Event, Failed> {
    let entity = named(said.get("entity"), &ENTITIES);
    let action = named(said.get("action"), &ACTIONS);
    let (Some(entity), Some(action)) = (entity, action) else {
        return Err(Failed::invalid(format!(
            "Invalid webhook event {said}: its entity is one of {}, its action one of {}.",
            ENTITIES.join(", ").to_ascii_uppercase(),
            ACTIONS.join(", ").to_ascii_uppercase()
        )));
    };
    Event::of(entity, action).ok_or_else(|| {
        let of = |e: &&Event| e.entity == entity;
        let valid: Vec<String> = Event::ALL.iter().filter(of).map(|e| format!("'{}'", e.action)).collect();
        Failed::invalid(format!(
            "Invalid action '{action}' for entity '{entity}'. Valid actions are: [{}]",
            valid.join(", ")
        ))
    })
}

fn events(asked: &Asked) -> Result<Vec<Event>, Failed> {
    asked.list("events").iter().map(event).collect()
}

/// Whether it is told, if it is said.
fn active(asked: &Asked) -> Result<Option<bool>, Failed> {
    let Some(said) = asked.get("status") else { return Ok(None) };
    let state = named(Some(said), &STATES).ok_or_else(|| match said {
        Json::String(_) => {
            Failed::invalid(format!("Invalid webhook status {said}: it is one of {}.", STATES.join(", ")))
        }
        other => wrong("status", other),
    })?;
    Ok(Some(state == "ACTIVE"))
}

/// That something may be told there, as far as its address says so.
fn address(sender: &dyn Deliver, url: &str) -> Result<(), Failed> {
    let near = sender.check_address(url);
    let host = check::webhook_url(url, near.is_ok())?;
    let literal = host.parse::<std::net::IpAddr>();
    near.map_err(|why| match literal {
        Ok(ip) => Failed::invalid(format!(
            "Webhook URL must not resolve to a non-public IP address. '{ip}' resolves to {ip}."
        )),
        Err(_) => Failed::invalid(format!("Invalid webhook URL {url:?}: {why}")),
    })
}

/// A secret as it is kept; an empty one is none.
fn sealed(sender: &dyn Deliver, secret: &str, id: &str) -> Result<Option<String>, Failed> {
    check::webhook_text(secret, "secret")?;
    if secret.is_empty() {
        return Ok(None);
    }
    let sealed = sender.seal(&Secret::new(secret), id);
    sealed.map(Some).map_err(|why| {
        tracing::error!("failed to keep the secret of a webhook: {why}");
        Failed::unsupported("The secret of a webhook cannot be kept here")
    })
}

const FIELDS: [Field; 3] =
    [may("description", Sort::Text), may("secret", Sort::Text), may("status", Sort::Name)];

async fn create(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    let own = [must("name", Sort::Text), must("url", Sort::Text), must("events", Sort::List)];
    check(asked, &[own.as_slice(), FIELDS.as_slice()].concat())?;
    let (name, url, description) = (asked.str("name"), asked.str("url"), asked.str("description"));
    let (events, active) = (events(asked)?, active(asked)?);
    check::webhook_name(name)?;
    let sender = sender(cx)?;
    address(&*sender, url)?;
    if events.is_empty() {
        return Err(check::webhook_without_events().into());
    }
    check::webhook_text(description, "description")?;
    let id = cx.fresh().to_be_bytes();
    let new = NewRegistryWebhook {
        id,
        name: name.to_owned(),
        url: url.to_owned(),
        events,
        description: description.to_owned(),
        active: active.unwrap_or(true),
        secret: sealed(&*sender, asked.str("secret"), &webhook_id(id))?,
    };
    one(&cx.tracking().create_webhook(&new, cx.now).await?)
}

async fn list(cx: &Cx) -> Answer {
    check(&cx.asked, &[may("max_results", Sort::Int), may("page_token", Sort::Text)])?;
    let most = cx.asked.int("max_results").filter(|n| *n != 0).unwrap_or(PAGE);
    let most = u64::try_from(most).ok().filter(|_| (1..=MOST).contains(&most));
    let most = most.ok_or_else(|| Failed::invalid(format!("max_results must be between 1 and {MOST}.")))?;
    let Page { items, next } = cx.tracking().webhooks(offset(cx.asked.str("page_token"))?, most).await?;
    let all: Vec<WebhookWire<'_>> = items.iter().map(WebhookWire::from).collect();
    let mut said = serde_json::Map::new();
    if !all.is_empty() {
        said.insert("webhooks".to_owned(), json!(all));
    }
    said.extend(next.map(|from| ("next_page_token".to_owned(), json!(token(from)))));
    json(&said)
}

async fn get(cx: &Cx, id: &str) -> Answer {
    one(&cx.tracking().webhook(id).await?)
}

async fn update(cx: &Cx, id: &str) -> Answer {
    let asked = &cx.asked;
    let own = [may("name", Sort::Text), may("url", Sort::Text), may("events", Sort::List)];
    check(asked, &[own.as_slice(), FIELDS.as_slice()].concat())?;
    let (events, active) = (events(asked)?, active(asked)?);
    let given = |field: &str| asked.maybe_str(field).filter(|text| !text.is_empty()).map(str::to_owned);
    // What is not there is told first.
    let known = cx.tracking().webhook(id).await?;
    let sender = sender(cx)?;
    let (name, url) = (given("name"), given("url"));
    if let Some(name) = &name {
        check::webhook_name(name)?;
    }
    if let Some(url) = &url {
        address(&*sender, url)?;
    }
    let description = asked.maybe_str("description").map(str::to_owned);
    check::webhook_text(description.as_deref().unwrap_or_default(), "description")?;
    let secret = asked.maybe_str("secret").map(|secret| sealed(&*sender, secret, &known.id)).transpose()?;
    let update = WebhookUpdate {
        name,
        url,
        events: Some(events).filter(|all| !all.is_empty()),
        description,
        active,
        secret,
    };
    one(&cx.tracking().update_webhook(&known.id, &update, cx.now).await?)
}

async fn delete(cx: &Cx, id: &str) -> Answer {
    cx.tracking().delete_webhook(id).await?;
    done()
}

#[derive(Serialize)]
struct Tested<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

/// Tells a webhook an example, now and once, also one that is disabled.
async fn test(cx: &Cx, id: &str) -> Answer {
    let asked = cx.asked.get("event").map(event).transpose()?;
    let webhook = cx.tracking().webhook(id).await?;
    let sender = sender(cx)?;
    let first = || webhook.events.first().copied();
    let event = asked.or_else(first).ok_or_else(|| Failed::from(check::webhook_without_events()))?;
    let message = Message {
        id: format!("msg_{:032x}", cx.fresh()),
        tenant: cx.tenant.clone(),
        signed: Signed::Registry { webhook: webhook.id.clone(), secret: webhook.secret.clone() },
        url: webhook.url.clone(),
        body: event.message(cx.now, &event.example()).into_bytes(),
    };
    let (came, said) = sender.try_out(message).await;
    let result = match came {
        Delivered::Answer { status, .. } => Tested {
            success: (200..300).contains(&status),
            response_status: Some(status),
            response_body: Some(&said),
            error_message: None,
        },
        Delivered::Unreachable(why) | Delivered::Forbidden(why) => Tested {
            success: false,
            response_status: None,
            response_body: None,
            error_message: Some(format!("Failed to test webhook: {why}")),
        },
    };
    json(&json!({"result": result}))
}
