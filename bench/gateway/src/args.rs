//! `--name value` pairs, and the target that all clients share.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::Result;
use crate::plan::Plan;

/// The options of a command.
pub(crate) struct Args(BTreeMap<String, String>);

impl Args {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Args> {
        let mut all = BTreeMap::new();
        while let Some(name) = words.next() {
            let bare = name.strip_prefix("--").ok_or_else(|| format!("`{name}` is no option"))?;
            let value = words.next().ok_or_else(|| format!("`{name}` wants a value"))?;
            all.insert(bare.to_owned(), value);
        }
        Ok(Args(all))
    }

    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.0.get(name) {
            Some(v) => v.parse().map_err(|_| format!("--{name}: `{v}` is no number").into()),
            None => Ok(default),
        }
    }
}

/// Where requests go, and the bytes of one.
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) address: String,
    /// The whole request, head and body.
    pub(crate) request: Vec<u8>,
    /// The text the answer must have.
    pub(crate) answer: String,
}

impl Target {
    pub(crate) fn new(args: &Args, plan: &Plan, stream: bool) -> Result<Target> {
        let url = args.text("url", "http://127.0.0.1:9100/v1/chat/completions");
        let rest = url.strip_prefix("http://").ok_or("--url: only http://")?;
        let (address, path) = rest.split_once('/').ok_or("--url: no path")?;
        let mut body = serde_json::json!({
            "model": args.text("model", "mock"),
            "messages": [{"role": "user", "content": plan.prompt()}],
            "stream": stream,
        });
        if stream && let Some(fields) = body.as_object_mut() {
            fields.insert("stream_options".into(), serde_json::json!({"include_usage": true}));
        }
        let body = body.to_string();
        let key = args.text("key", "none");
        let mut head = format!(
            "POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n"
        );
        // Portkey takes its upstream from headers.
        for header in args.text("headers", "").split('|').filter(|h| !h.is_empty()) {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        Ok(Target { address: address.to_owned(), request: head.into_bytes(), answer: plan.text() })
    }
}
