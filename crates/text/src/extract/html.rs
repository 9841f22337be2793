//! HTML by a conforming tokenizer, without a tree: memory is that of the text, and nesting cannot exhaust a stack.
//!
//! Kept: title, headings (sections), paragraphs, lists, preformatted text, tables as rows. Dropped with all they hold:
//! scripts, styles, navigation, footers, forms' controls, hidden elements.

use contract::Error;
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{StartTag, Token, Tokenizer};

use super::builder::Builder;

const DROPPED: [&[u8]; 19] = [
    b"script",
    b"style",
    b"nav",
    b"footer",
    b"aside",
    b"template",
    b"noscript",
    b"svg",
    b"math",
    b"iframe",
    b"object",
    b"select",
    b"button",
    b"textarea",
    b"canvas",
    b"audio",
    b"video",
    b"datalist",
    b"dialog",
];
const VOID: [&[u8]; 13] = [
    b"area", b"base", b"br", b"col", b"embed", b"hr", b"img", b"input", b"link", b"meta", b"source",
    b"track", b"wbr",
];
const BLOCKS: [&[u8]; 22] = [
    b"p",
    b"div",
    b"section",
    b"article",
    b"main",
    b"header",
    b"ul",
    b"ol",
    b"dl",
    b"dd",
    b"dt",
    b"blockquote",
    b"figure",
    b"figcaption",
    b"table",
    b"pre",
    b"hr",
    b"address",
    b"details",
    b"summary",
    b"form",
    b"body",
];

/// An element that is being dropped, and how many of its name are open inside.
struct Dropping {
    name: Vec<u8>,
    depth: usize,
}

#[derive(Default)]
struct State {
    dropping: Option<Dropping>,
    title: Option<String>,
    pre: usize,
    cells: usize,
}

pub(super) fn extract(text: &str, out: &mut Builder) -> Result<(), Error> {
    let mut emitter: DefaultEmitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut state = State::default();
    for token in Tokenizer::new_with_emitter(text, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => state.start(&tag, out)?,
            Token::EndTag(tag) => state.end(&tag.name, out),
            Token::String(s) => {
                let s = String::from_utf8_lossy(&s);
                if state.dropping.is_some() {
                } else if let Some(title) = &mut state.title {
                    if title.len() < 1_000 {
                        title.push_str(&s);
                    }
                } else if state.pre > 0 {
                    out.raw(&s)?;
                } else {
                    out.inline(&s)?;
                }
            }
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    Ok(())
}

impl State {
    fn start(&mut self, tag: &StartTag<()>, out: &mut Builder) -> Result<(), Error> {
        let name: &[u8] = &tag.name;
        if let Some(d) = &mut self.dropping {
            if d.name != name {
                return Ok(());
            }
            // A new one of these closes the one before, as its end tag may be left out.
            if matches!(name, b"p" | b"li" | b"td" | b"th" | b"tr" | b"dd" | b"dt") {
                self.dropping = None;
            } else {
                d.depth += 1;
                return Ok(());
            }
        }
        if VOID.contains(&name) {
            match name {
                b"br" => out.line(),
                b"hr" => out.block(),
                _ => {}
            }
            return Ok(());
        }
        if DROPPED.contains(&name) || hidden(tag) {
            if !(tag.self_closing && name == b"svg") {
                self.dropping = Some(Dropping { name: name.to_vec(), depth: 1 });
            }
            return Ok(());
        }
        match name {
            b"title" => self.title = Some(String::new()),
            [b'h', level @ b'1'..=b'6'] => out.start_heading(level - b'0'),
            b"li" => {
                out.line();
                out.raw("- ")?;
            }
            b"tr" => {
                out.line();
                self.cells = 0;
            }
            b"td" | b"th" => {
                if self.cells > 0 {
                    out.raw(" | ")?;
                }
                self.cells += 1;
            }
            // Inside a cell or a list item, a paragraph is no paragraph.
            b"p" | b"div" if self.cells > 0 => {}
            _ if BLOCKS.contains(&name) => {
                out.block();
                if name == b"pre" {
                    self.pre += 1;
                }
                if name == b"table" {
                    self.cells = 0;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &[u8], out: &mut Builder) {
        if let Some(d) = &mut self.dropping {
            if d.name == name {
                d.depth -= 1;
                if d.depth == 0 {
                    self.dropping = None;
                }
            }
            return;
        }
        match name {
            b"title" => {
                if let Some(t) = self.title.take() {
                    out.title(&t);
                }
            }
            [b'h', b'1'..=b'6'] => out.end_heading(),
            b"li" => out.line(),
            b"tr" => {
                out.line();
                self.cells = 0;
            }
            b"p" | b"div" if self.cells > 0 => {}
            _ if BLOCKS.contains(&name) => {
                if name == b"pre" {
                    self.pre = self.pre.saturating_sub(1);
                }
                if name == b"table" {
                    self.cells = 0;
                }
                out.block();
            }
            _ => {}
        }
    }
}

fn hidden(tag: &StartTag<()>) -> bool {
    tag.attributes.iter().any(|(name, value)| {
        let value: Vec<u8> =
            value.iter().filter(|b| !b.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect();
        match name.as_slice() {
            b"hidden" => value != b"until-found",
            b"aria-hidden" => value == b"true",
            b"role" => value == b"navigation",
            b"style" => {
                let has = |s: &[u8]| memchr::memmem::find(&value, s).is_some();
                has(b"display:none") || has(b"visibility:hidden")
            }
            _ => false,
        }
    })
}
