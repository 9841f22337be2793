//! The events of a streamed response.
//!
//! Order: `response.created`, `response.in_progress`, then for each item `output_item.added`, its pieces and
//! `output_item.done`, then one of `response.completed`, `response.incomplete` and `response.failed`. `sequence_number`
//! counts them from 0. When a stream breaks, what had not ended is not done: who acts on a call when it is done must not
//! act on the beginning of one. It ends with `error` and `response.failed`, which holds the items as far as they came.
//!
//! An answer that begins anew, for a caller who asked for that, says `response.forebay_reset`: the items before it are
//! no part of the response. Their places are not given again: its `output_index` is the first item's that counts, which is
//! the first of the `output` at the end.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use contract::{Error, ToolCall, Usage};
use serde_json::Value as Json;

use super::Echo;
use super::object::{self, End, Item, Object, Status};
use crate::{Delta, FinishReason, json};

/// Writes the events. Call order: `start`, `delta`…, then `end` or `error`, once.
#[derive(Debug)]
pub struct Events {
    serial: String,
    object: Object,
    next: Next,
    items: Vec<Placed>,
    /// The place of the first item: those before it are forgotten.
    first: usize,
    /// Whether the last item is a message or reasoning that goes on. Calls go on until the end: pieces of several may come
    /// in turns.
    open: bool,
    /// The place of each call by the provider's index of it.
    calls: BTreeMap<u32, usize>,
    /// Of the next text.
    logprobs: Vec<Json>,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
}

/// An item in its place.
#[derive(Debug)]
struct Placed {
    id: String,
    index: usize,
    item: Item,
    /// How it ended, once it has.
    done: Option<Status>,
}

/// The number of the next event.
#[derive(Debug, Default)]
struct Next(u64);

impl Next {
    /// Begins an event: its object is open behind this.
    fn event(&mut self, out: &mut BytesMut, kind: &str) {
        out.put_slice(b"event: ");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\ndata: {\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(br#"","sequence_number":"#);
        json::int(out, self.0);
        self.0 += 1;
    }

    /// Begins an event of an item.
    fn of_item(&mut self, out: &mut BytesMut, kind: &str, placed: &Placed) {
        self.event(out, kind);
        out.put_slice(br#","output_index":"#);
        json::int(out, placed.index);
        json::key(out, "item_id");
        json::string(out, &placed.id);
    }

    /// An event about an item as a whole.
    fn whole_item(&mut self, out: &mut BytesMut, kind: &str, placed: &Placed, status: Status) {
        self.event(out, kind);
        out.put_slice(br#","output_index":"#);
        json::int(out, placed.index);
        json::key(out, "item");
        placed.item.write(out, &placed.id, status);
        close(out);
    }
}

fn close(out: &mut BytesMut) {
    out.put_slice(b"}\n\n");
}

impl Events {
    /// `serial` makes the ids: `resp_SERIAL`, `msg_SERIAL_0`; `created` in seconds since the epoch; `model` is what the
    /// caller asked for.
    pub fn new(serial: &str, created: i64, model: &str, echo: Echo) -> Self {
        Events {
            serial: serial.to_owned(),
            object: Object::new(serial, created, model, echo),
            next: Next::default(),
            items: Vec::new(),
            first: 0,
            open: false,
            calls: BTreeMap::new(),
            logprobs: Vec::new(),
            usage: None,
            finish: None,
        }
    }

    /// `response.created`, `response.in_progress`.
    pub fn start(&mut self, out: &mut BytesMut) {
        let end = End { status: Status::InProgress, reason: None, error: None, usage: None };
        for kind in ["response.created", "response.in_progress"] {
            self.next.event(out, kind);
            json::key(out, "response");
            self.object.write(out, &end, |_| {});
            close(out);
        }
    }

    /// The next piece. Usage and the finish are kept for the end, and versions write nothing.
    pub fn delta(&mut self, out: &mut BytesMut, delta: &Delta) {
        match delta {
            Delta::Version(_) => {}
            Delta::Usage(u) => self.usage = Some(*u),
            Delta::Finish(f) => self.finish = Some(f.clone()),
            Delta::Reset => self.reset(out),
            Delta::Logprobs(more) => self.logprobs.extend(object::entries(more).cloned()),
            Delta::Text(t) | Delta::Reasoning(t) if t.is_empty() => {}
            Delta::Text(t) => self.text(out, t),
            Delta::Reasoning(t) => self.reasoning(out, t),
            Delta::Signature(seal) => {
                self.enter(out, Item::Reasoning { text: String::new(), signature: String::new() });
                if let Some(Placed { item: Item::Reasoning { signature, .. }, .. }) = self.items.last_mut() {
                    signature.push_str(seal);
                }
            }
            Delta::ToolCall { index, id, name, arguments } => {
                self.call(out, (*index, id.as_deref(), name.as_deref()), arguments);
            }
        }
    }

    /// What was said is over, and no call that was begun is to be made.
    fn reset(&mut self, out: &mut BytesMut) {
        self.leave(out, Status::Incomplete);
        self.next.event(out, "response.forebay_reset");
        // The first that counts: the response holds the items from there on.
        out.put_slice(br#","output_index":"#);
        json::int(out, self.first + self.items.len());
        close(out);
        self.first += self.items.len();
        self.items.clear();
        self.calls.clear();
        self.logprobs.clear();
        (self.usage, self.finish) = (None, None);
    }

    /// The end of a complete stream.
    pub fn end(&mut self, out: &mut BytesMut) {
        let (status, reason) = object::ended(self.finish.as_ref());
        let last = self.items.len();
        for (i, placed) in self.items.iter_mut().enumerate() {
            let whole = i + 1 < last;
            done(&mut self.next, out, placed, if whole { Status::Completed } else { status });
        }
        let kind = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        let usage = Some(self.usage.unwrap_or_default());
        self.last(out, kind, &End { status, reason, error: None, usage });
    }

    /// The end of a stream that broke.
    pub fn error(&mut self, out: &mut BytesMut, error: &Error) {
        self.next.event(out, "error");
        json::key(out, "code");
        json::string(out, error.code.as_str());
        json::key(out, "message");
        json::string(out, &error.told());
        json::key(out, "param");
        match &error.param {
            Some(p) => json::string(out, p),
            None => out.put_slice(b"null"),
        }
        close(out);
        let end = End { status: Status::Failed, reason: None, error: Some(error), usage: self.usage };
        self.last(out, "response.failed", &end);
    }

    fn last(&mut self, out: &mut BytesMut, kind: &str, end: &End<'_>) {
        self.next.event(out, kind);
        json::key(out, "response");
        self.object.write(out, end, |out| {
            for (i, placed) in self.items.iter().enumerate() {
                if i > 0 {
                    out.put_u8(b',');
                }
                placed.item.write(out, &placed.id, placed.done.unwrap_or(Status::Incomplete));
            }
        });
        close(out);
    }

    fn text(&mut self, out: &mut BytesMut, text: &str) {
        let probabilities = std::mem::take(&mut self.logprobs);
        self.enter(out, Item::Message { text: String::new(), logprobs: Vec::new() });
        let Some(placed) = self.items.last_mut() else { return };
        self.next.of_item(out, "response.output_text.delta", placed);
        out.put_slice(br#","content_index":0,"delta":"#);
        json::string(out, text);
        json::key(out, "logprobs");
        object::probabilities(out, &probabilities);
        close(out);
        if let Item::Message { text: all, logprobs } = &mut placed.item {
            all.push_str(text);
            logprobs.extend(probabilities);
        }
    }

    fn reasoning(&mut self, out: &mut BytesMut, text: &str) {
        self.enter(out, Item::Reasoning { text: String::new(), signature: String::new() });
        let Some(placed) = self.items.last_mut() else { return };
        // The summary's part begins with its first text: reasoning that is only sealed has none.
        if matches!(&placed.item, Item::Reasoning { text, .. } if text.is_empty()) {
            self.next.of_item(out, "response.reasoning_summary_part.added", placed);
            out.put_slice(br#","summary_index":0,"part":"#);
            object::summary_part(out, "");
            close(out);
        }
        self.next.of_item(out, "response.reasoning_summary_text.delta", placed);
        out.put_slice(br#","summary_index":0,"delta":"#);
        json::string(out, text);
        close(out);
        if let Item::Reasoning { text: all, .. } = &mut placed.item {
            all.push_str(text);
        }
    }

    /// The first piece of a call has its id and name.
    fn call(
        &mut self,
        out: &mut BytesMut,
        (index, id, name): (u32, Option<&str>, Option<&str>),
        arguments: &str,
    ) {
        let at = match self.calls.get(&index) {
            Some(at) => *at,
            None => {
                let at = self.items.len();
                let new = || format!("call_{}_{}", self.serial, self.first + at);
                let id = id.map_or_else(new, str::to_owned);
                let name = name.unwrap_or_default().to_owned();
                self.add(out, Item::Call(ToolCall { id, name, arguments: String::new() }));
                self.calls.insert(index, at);
                at
            }
        };
        let Some(placed) = self.items.get_mut(at).filter(|_| !arguments.is_empty()) else { return };
        if let Item::Call(call) = &mut placed.item {
            call.arguments.push_str(arguments);
        }
        self.next.of_item(out, "response.function_call_arguments.delta", placed);
        json::key(out, "delta");
        json::string(out, arguments);
        close(out);
    }

    /// Lets the last item be a message or reasoning, as `new` is one: that which goes on, or `new`.
    fn enter(&mut self, out: &mut BytesMut, new: Item) {
        let same = |p: &Placed| std::mem::discriminant(&p.item) == std::mem::discriminant(&new);
        if !self.open || !self.items.last().is_some_and(same) {
            self.add(out, new);
            self.open = true;
        }
    }

    /// Ends the message or reasoning that goes on, if one does.
    fn leave(&mut self, out: &mut BytesMut, status: Status) {
        if std::mem::take(&mut self.open)
            && let Some(last) = self.items.last_mut()
        {
            done(&mut self.next, out, last, status);
        }
    }

    /// Ends what went on, and begins another item.
    fn add(&mut self, out: &mut BytesMut, item: Item) {
        self.leave(out, Status::Completed);
        let index = self.first + self.items.len();
        let placed = Placed { id: item.id(&self.serial, index), index, item, done: None };
        self.next.whole_item(out, "response.output_item.added", &placed, Status::InProgress);
        if matches!(placed.item, Item::Message { .. }) {
            self.next.of_item(out, "response.content_part.added", &placed);
            out.put_slice(br#","content_index":0,"part":"#);
            object::text_part(out, "", &[]);
            close(out);
        }
        self.items.push(placed);
    }
}

/// The events that end an item, once.
fn done(next: &mut Next, out: &mut BytesMut, placed: &mut Placed, status: Status) {
    if placed.done.is_some() {
        return;
    }
    placed.done = Some(status);
    match &placed.item {
        Item::Message { text, logprobs } => {
            next.of_item(out, "response.output_text.done", placed);
            out.put_slice(br#","content_index":0,"text":"#);
            json::string(out, text);
            json::key(out, "logprobs");
            object::probabilities(out, logprobs);
            close(out);
            next.of_item(out, "response.content_part.done", placed);
            out.put_slice(br#","content_index":0,"part":"#);
            object::text_part(out, text, logprobs);
            close(out);
        }
        Item::Reasoning { text, .. } if !text.is_empty() => {
            next.of_item(out, "response.reasoning_summary_text.done", placed);
            out.put_slice(br#","summary_index":0,"text":"#);
            json::string(out, text);
            close(out);
            next.of_item(out, "response.reasoning_summary_part.done", placed);
            out.put_slice(br#","summary_index":0,"part":"#);
            object::summary_part(out, text);
            close(out);
        }
        Item::Reasoning { .. } => {}
        Item::Call(call) => {
            next.of_item(out, "response.function_call_arguments.done", placed);
            json::key(out, "name");
            json::string(out, &call.name);
            json::key(out, "arguments");
            json::string(out, &call.arguments);
            close(out);
        }
    }
    next.whole_item(out, "response.output_item.done", placed, status);
}
