//! Markdown by pulldown-cmark: headings become sections, code and the text of links and images are kept, HTML is not.

use contract::Error;
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::builder::Builder;

pub(super) fn extract(text: &str, out: &mut Builder) -> Result<(), Error> {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let (mut code, mut meta, mut cell) = (false, false, 0_usize);
    let mut lists: Vec<Option<u64>> = Vec::new();
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => out.start_heading(depth(level)),
            Event::End(TagEnd::Heading(_)) => out.end_heading(),
            Event::Start(Tag::MetadataBlock(_)) => meta = true,
            Event::End(TagEnd::MetadataBlock(_)) => meta = false,
            Event::Start(Tag::CodeBlock(_)) => {
                out.block();
                code = true;
            }
            Event::End(TagEnd::CodeBlock) => {
                code = false;
                out.block();
            }
            Event::Start(Tag::List(first)) => {
                if lists.is_empty() {
                    out.block();
                }
                lists.push(first);
            }
            Event::End(TagEnd::List(_)) => {
                lists.pop();
                if lists.is_empty() {
                    out.block();
                }
            }
            Event::Start(Tag::Item) => {
                out.line();
                match lists.last_mut() {
                    Some(Some(n)) => {
                        out.raw(&format!("{n}. "))?;
                        *n = n.saturating_add(1);
                    }
                    _ => out.raw("- ")?,
                }
            }
            Event::End(TagEnd::Item | TagEnd::TableRow | TagEnd::TableHead) | Event::HardBreak => out.line(),
            Event::Start(Tag::TableRow | Tag::TableHead) => cell = 0,
            Event::Start(Tag::TableCell) => {
                if cell > 0 {
                    out.raw(" | ")?;
                }
                cell += 1;
            }
            Event::End(TagEnd::Paragraph) if !lists.is_empty() => out.line(),
            Event::Start(Tag::Table(_) | Tag::BlockQuote(_))
            | Event::End(TagEnd::Paragraph | TagEnd::Table | TagEnd::BlockQuote(_))
            | Event::Rule => out.block(),
            Event::Text(t) if meta => {
                let title = t.lines().find_map(|l| l.strip_prefix("title:"));
                out.title(title.unwrap_or_default().trim().trim_matches(['"', '\'']));
            }
            Event::Text(t) if code => out.raw(&t)?,
            Event::Text(t) | Event::Code(t) | Event::InlineMath(t) | Event::DisplayMath(t) => {
                out.inline(&t)?
            }
            Event::SoftBreak => out.inline(" ")?,
            _ => {}
        }
    }
    Ok(())
}

fn depth(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}
