//! The card: Markdown that shows the same wherever it is read.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value, context};

use super::Record;
use super::view::View;

const NAME: &str = "card.md";
const TEMPLATE: &str = include_str!("card.md");

/// The card of a record.
pub(super) fn of(record: &Record) -> String {
    render(record).unwrap_or_else(|error| {
        // The template is fixed: a failure here is a defect, and the record has all of it.
        tracing::error!(error = %format!("{error:#}"), "a model card could not be made");
        "This card could not be made; the record has all of it.\n".to_owned()
    })
}

fn render(record: &Record) -> Result<String, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| AutoEscape::Custom("markdown".into()));
    env.set_formatter(escape);
    env.add_template(NAME, TEMPLATE)?;
    env.get_template(NAME)?.render(context! { v => Value::from(Serde(View::of(record))) })
}

/// Puts a value into Markdown so that it shows as it is: no markup, no HTML, no line of its own.
fn escape(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let failed = |_| Error::from(ErrorKind::WriteFailure);
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() || value.is_none() => String::new(),
        None => value.to_string(),
    };
    out.write_str(&escaped(&text)).map_err(failed)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // A number may begin with a sign; a text that does would be an item of a list.
    let item = text.starts_with(['-', '+']) && text.parse::<f64>().is_err();
    if item {
        out.push('\\');
    }
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_shows_as_it_is() {
        assert_eq!(escaped("a|b *c* <img>\n# d ![x](y)"), "a\\|b \\*c\\* &lt;img&gt; \\# d \\!\\[x\\](y)");
        assert_eq!((escaped("-0.5").as_str(), escaped("- item").as_str()), ("-0.5", "\\- item"));
    }
}
