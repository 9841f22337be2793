//! Texts of a configuration that name values: minijinja over `run.id`, `pipeline`, `stage` and `inputs.NAME`. Which inputs a
//! template names so is known before anything runs: they are its stage's, with those that the configuration lists. Work and
//! length are bounded.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Code, Context, Error, Inputs, Kind, Value};
use indexmap::IndexMap;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value as Json;

/// Instructions a rendering may take.
const FUEL: u64 = 2_000_000;
const NAME: &str = "text";

/// What becomes of values where they are put in; the text around them stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// Nothing.
    None,
    /// What means something in an address is written as `%XX`: a value is never more than a part of a path or a query.
    Url,
    /// `&`, `<` and `>`, by which a message in Slack's form names people and links.
    Slack,
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template {
    env: Environment<'static>,
    inputs: BTreeSet<String>,
    /// It may name others too, in a way that is known when it is filled in.
    others: bool,
}

impl Template {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(source: &str, escape: Escape) -> Result<Self, String> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_fuel(Some(FUEL));
        env.set_formatter(move |out, _, value| {
            if value.is_undefined() {
                return Err(minijinja::ErrorKind::UndefinedError.into());
            }
            let text = if value.is_none() { String::new() } else { value.to_string() };
            let text = match escape {
                Escape::Url if !value.is_safe() => percent(&text),
                Escape::Slack if !value.is_safe() => {
                    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
                }
                _ => text,
            };
            out.write_str(&text).map_err(Into::into)
        });
        let globals: BTreeSet<String> = env.globals().map(|(n, _)| n.to_owned()).collect();
        env.add_template_owned(NAME, source.to_owned())
            .map_err(|e| format!("the template has a mistake: {e}"))?;
        let named =
            env.get_template(NAME).map(|t| t.undeclared_variables(true)).map_err(|e| e.to_string())?;
        let (mut inputs, mut others) = (BTreeSet::new(), false);
        for name in named.into_iter().filter(|n| !globals.contains(n)) {
            let mut parts = name.split('.');
            match (parts.next(), parts.next()) {
                (Some("pipeline" | "stage"), None) | (Some("run"), _) => {}
                // Filled in before a stage is built; they are there when nothing is yet.
                (Some("params" | "partition" | "matrix"), Some(_)) => {}
                (Some("inputs"), Some(input)) => drop(inputs.insert(input.to_owned())),
                (Some("inputs"), None) => others = true,
                _ => {
                    return Err(format!(
                        "there is no `{name}`: there are `run.id`, `pipeline`, `stage`, `params.NAME` and `inputs.NAME`"
                    ));
                }
            }
        }
        Ok(Template { env, inputs, others })
    }

    /// The inputs that the templates name and those that are `listed`.
    ///
    /// # Errors
    /// A template names inputs otherwise than as `inputs.NAME`, and none are listed.
    pub(super) fn inputs<'a>(
        templates: impl Iterator<Item = &'a Template>,
        listed: &[String],
    ) -> Result<IndexMap<String, Kind>, String> {
        let mut names: IndexMap<String, Kind> = listed.iter().map(|n| (n.clone(), Kind::Any)).collect();
        for t in templates {
            if t.others && listed.is_empty() {
                return Err("which inputs it takes is not known: name them as `inputs.NAME`, or list them in `inputs`".into());
            }
            names.extend(t.inputs.iter().map(|n| (n.clone(), Kind::Any)));
        }
        Ok(names)
    }

    /// # Errors
    /// [`Code::InvalidRequest`] when a value does not have what is named, [`Code::TooLarge`].
    pub(super) fn render(&self, cx: &Context, values: &Values<'_>, at_most: usize) -> Result<String, Error> {
        let wrong = |e: minijinja::Error| {
            let m = format!("a template cannot be filled in: {}", e.kind());
            Error::new(Code::InvalidRequest, m).detail(e.detail().unwrap_or_default())
        };
        let attempt = cx.attempt.as_ref();
        // An input that its contract left out is there, and nothing.
        let given = |n: &String| {
            let value = values.given.get(n).map(shown);
            (n.clone(), value.unwrap_or(minijinja::Value::from(())))
        };
        let inputs: BTreeMap<String, minijinja::Value> = values.named.keys().map(given).collect();
        let text = |t: Option<String>| minijinja::Value::from(t.unwrap_or_default());
        let values = BTreeMap::from([
            ("run", minijinja::Value::from_pairs([("id", text(attempt.map(|a| a.run.to_string())))])),
            ("pipeline", text(attempt.map(|a| a.pipeline.to_string()))),
            ("stage", text(cx.stage.as_ref().map(ToString::to_string))),
            ("inputs", minijinja::Value::from(inputs)),
        ]);
        let mut bounded = Bounded { text: Vec::new(), at_most, full: false };
        let template = self.env.get_template(NAME).map_err(wrong)?;
        match template.render_captured_to(minijinja::Value::from(values), &mut bounded) {
            _ if bounded.full => {
                Err(Error::new(Code::TooLarge, format!("a template gives more than {at_most} bytes")))
            }
            Ok(_) => Ok(String::from_utf8_lossy(&bounded.text).into_owned()),
            Err(e) => Err(wrong(e)),
        }
    }
}

/// What a stage is given.
pub(super) struct Values<'a> {
    /// The names of all its inputs.
    pub(super) named: &'a IndexMap<String, Kind>,
    /// Those that came.
    pub(super) given: &'a Inputs,
}

/// A value as a template sees it: JSON as it is, all else as text.
fn shown(value: &Value) -> minijinja::Value {
    from_json(value.to_json())
}

fn from_json(json: Json) -> minijinja::Value {
    match json {
        Json::Null => ().into(),
        Json::Bool(b) => b.into(),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => n.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(all) => all.into_iter().map(from_json).collect::<Vec<_>>().into(),
        Json::Object(all) => minijinja::Value::from_pairs(all.into_iter().map(|(k, v)| (k, from_json(v)))),
    }
}

/// Takes so much and no more.
struct Bounded {
    text: Vec<u8>,
    at_most: usize,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > self.at_most {
            self.full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All but what RFC 3986 calls unreserved.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_of_a_template_are_known_and_what_is_none_is_refused() {
        let inputs = |source: &str, listed: &[String]| {
            let t = Template::parse(source, Escape::None).unwrap();
            Template::inputs([&t].into_iter(), listed).map(|all| all.into_keys().collect::<Vec<_>>())
        };
        let source = "{{ inputs.rows.count }} {% for r in inputs.all %}{{ r.x }}{% endfor %} {{ run.id }}";
        assert_eq!(inputs(source, &[]).unwrap(), ["all", "rows"]);
        let source = "{{ inputs['a-b'] }} {{ inputs.c }}";
        assert!(inputs(source, &[]).is_err());
        assert_eq!(inputs(source, &["a-b".into()]).unwrap(), ["a-b", "c"]);
        for wrong in ["{{ x }}", "{{ params }}", "{{"] {
            assert!(Template::parse(wrong, Escape::None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_in_an_address_is_never_more_than_a_part_of_it() {
        assert_eq!(percent("a/../b?c=d&e#f@g:h ä"), "a%2F..%2Fb%3Fc%3Dd%26e%23f%40g%3Ah%20%C3%A4");
    }
}
