//! PDF by lopdf, page by page: each page is a section `p. N`.
//!
//! A PDF is hostile until read. What is decompressed is counted over the whole file and bounded, before it is kept;
//! the reader's panics (it has had some) become errors; pages and text are bounded. Not read: form objects, and text
//! of fonts that neither name an encoding nor map their glyphs to characters.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use contract::Error;
use lopdf::content::Content;
use lopdf::{DecompressError, Dictionary, Document, LoadOptions, Object, ObjectId};

use super::builder::Builder;
use super::{Limits, invalid, too_large};

thread_local! {
    /// What object streams may still grow to. The reader's filter is a plain function on this very thread, so that
    /// this is the only way to count over all streams of a file.
    static ROOM: Cell<usize> = const { Cell::new(0) };
}

/// What a parsed object takes, in times of its bytes.
const PARSED: usize = 4;

pub(super) fn extract(bytes: &[u8], limits: &Limits, out: &mut Builder) -> Result<(), Error> {
    match catch_unwind(AssertUnwindSafe(|| read(bytes, limits, out))) {
        Ok(r) => r,
        Err(_) => Err(invalid("the PDF is damaged beyond reading: print it to a new PDF and send that")),
    }
}

fn read(bytes: &[u8], limits: &Limits, out: &mut Builder) -> Result<(), Error> {
    if memchr::memmem::find(bytes.get(..bytes.len().min(1024)).unwrap_or_default(), b"%PDF-").is_none() {
        return Err(invalid("the document is no PDF (it does not begin with %PDF-): declare its real type"));
    }
    ROOM.set(limits.max_decompressed_bytes);
    let options = LoadOptions {
        filter: Some(charge),
        max_decompressed_size: Some(limits.max_decompressed_bytes),
        ..LoadOptions::default()
    };
    let loaded = Document::load_mem_with_options(bytes, options);
    let room = ROOM.replace(0);
    if room == 0 {
        return Err(grown(limits));
    }
    let pdf = loaded.map_err(|e| refused(&e, limits))?;
    if pdf.is_encrypted() {
        return Err(encrypted());
    }
    let pages: Vec<ObjectId> = pdf.page_iter().take(limits.max_pages + 1).collect();
    if pages.len() > limits.max_pages {
        return Err(too_large("the PDF", limits.max_pages, "pages"));
    }
    if pages.is_empty() {
        return Err(invalid("the PDF has no pages: it may be cut off, send it again"));
    }
    if let Some(title) = title(&pdf) {
        out.title(&title);
    }
    let mut reader = Reader { pdf: &pdf, fonts: HashMap::new(), room, limits };
    for (n, page) in pages.iter().enumerate() {
        let text = reader.page(*page)?;
        out.section(format!("p. {}", n + 1), 1);
        out.raw(&text)?;
    }
    Ok(())
}

/// Charges an object stream for what it grows to, before the reader keeps it; drops it when there is no room. Drops
/// the bytes of images, which nobody looks at.
fn charge(id: ObjectId, object: &mut Object) -> Option<(ObjectId, Object)> {
    if let Object::Stream(s) = object {
        if s.dict.has_type(b"ObjStm") {
            let room = ROOM.get();
            match s.get_plain_content_with_limit(room / PARSED) {
                Ok(c) => ROOM.set(room - c.len() * PARSED),
                Err(_) => {
                    ROOM.set(0);
                    return None;
                }
            }
        } else if s.dict.get(b"Subtype").and_then(Object::as_name).is_ok_and(|n| n == b"Image") {
            s.content = Vec::new();
        }
        return Some((id, Object::Null));
    }
    // For members of object streams the reader keeps what is returned, for others what is passed.
    Some((id, object.clone()))
}

fn grown(limits: &Limits) -> Error {
    too_large("what the PDF decompresses to", limits.max_decompressed_bytes, "bytes")
}

fn encrypted() -> Error {
    invalid("the PDF is encrypted: remove its password and send it again")
}

fn refused(e: &lopdf::Error, limits: &Limits) -> Error {
    match e {
        lopdf::Error::Decompress(DecompressError::MemoryLimitExceeded { .. }) => grown(limits),
        lopdf::Error::InvalidPassword
        | lopdf::Error::Decryption(_)
        | lopdf::Error::UnsupportedSecurityHandler(_) => encrypted(),
        _ => invalid("the PDF is damaged (its objects cannot be found): print it to a new PDF and send that"),
    }
}

fn title(pdf: &Document) -> Option<String> {
    let info = pdf.trailer.get(b"Info").ok()?.as_reference().ok()?;
    let title = pdf.get_dictionary(info).ok()?.get(b"Title").ok()?;
    lopdf::decode_text_string(title).ok().filter(|t| t.len() < 1_000)
}

/// Adds the characters of a string in a font's codes; what it cannot decode it leaves out.
type Decode<'a> = Box<dyn Fn(&[u8], &mut String) + 'a>;

/// A font as far as text needs it.
struct Font<'a> {
    decode: Option<Decode<'a>>,
    /// The first code and the widths from there, in thousandths of the font's size.
    first: usize,
    widths: Vec<f32>,
    two_bytes: bool,
}

impl Font<'_> {
    fn width(&self, bytes: &[u8]) -> f32 {
        if self.two_bytes {
            return bytes.len() as f32 / 2.0 * 0.5;
        }
        let one = |b: &u8| usize::from(*b).checked_sub(self.first).and_then(|i| self.widths.get(i)).copied();
        bytes.iter().map(|b| one(b).filter(|w| *w > 0.0).unwrap_or(500.0) / 1000.0).sum()
    }
}

struct Reader<'a> {
    pdf: &'a Document,
    fonts: HashMap<usize, Font<'a>>,
    room: usize,
    limits: &'a Limits,
}

impl<'a> Reader<'a> {
    fn page(&mut self, id: ObjectId) -> Result<String, Error> {
        let most = self.room.min(self.limits.max_page_bytes);
        let content = match self.pdf.get_page_content_with_limit(id, most) {
            Err(lopdf::Error::Decompress(DecompressError::MemoryLimitExceeded { .. }))
                if most < self.room =>
            {
                return Err(too_large("what a page of the PDF decompresses to", most, "bytes"));
            }
            content => content.map_err(|e| refused(&e, self.limits))?,
        };
        self.room -= content.len().min(self.room);
        let dicts = self.pdf.get_page_fonts(id).unwrap_or_default();
        let mut names: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (name, dict) in dicts {
            // A dictionary is shared by pages: its address in the loaded document is its identity.
            let key = std::ptr::from_ref::<Dictionary>(dict) as usize;
            if !self.fonts.contains_key(&key) {
                let font = self.font(dict)?;
                self.fonts.insert(key, font);
            }
            names.insert(name, key);
        }
        let mut pen = Pen::new(self.limits.max_text_bytes);
        for op in Content::decode_iter(&content) {
            let Ok(op) = op else { break };
            if op.operator == "Tf" {
                let name = op.operands.first().and_then(|o| o.as_name().ok());
                pen.font = name.and_then(|n| names.get(n)).copied();
                pen.size = number(op.operands.get(1)).abs();
            } else {
                let font = pen.font.and_then(|k| self.fonts.get(&k));
                pen.operate(&op.operator, &op.operands, font);
            }
            if pen.text.len() > self.limits.max_text_bytes {
                break; // the caller's bound on the text refuses it
            }
        }
        Ok(pen.text)
    }

    fn font(&mut self, dict: &'a Dictionary) -> Result<Font<'a>, Error> {
        let two_bytes = dict.get(b"Subtype").and_then(Object::as_name).is_ok_and(|n| n == b"Type0");
        // A character map may not take more than a small share: it is parsed into a table several times its size.
        let decode = match dict.get_font_encoding_with_limit(self.pdf, (self.room / 8).max(1)) {
            Ok(e) => Some(Box::new(move |bytes: &[u8], out: &mut String| {
                let _ = e.write_to_string(bytes, out);
            }) as Decode<'a>),
            Err(e @ lopdf::Error::Decompress(DecompressError::MemoryLimitExceeded { .. })) => {
                return Err(refused(&e, self.limits));
            }
            Err(_) => None,
        };
        self.room -= (64 << 10).min(self.room);
        let first = dict.get(b"FirstChar").and_then(Object::as_i64).unwrap_or(0);
        let widths = dict.get_deref(b"Widths", self.pdf).and_then(Object::as_array);
        Ok(Font {
            decode,
            first: usize::try_from(first).unwrap_or(0),
            widths: widths.map(|w| w.iter().take(256).map(|o| number(Some(o))).collect()).unwrap_or_default(),
            two_bytes,
        })
    }
}

fn number(o: Option<&Object>) -> f32 {
    o.and_then(|o| o.as_float().ok()).filter(|f| f.is_finite()).unwrap_or(0.0)
}

/// Follows the position of the text to tell words, lines and paragraphs apart.
struct Pen {
    text: String,
    max: usize,
    font: Option<usize>,
    size: f32,
    scale: f32,
    leading: f32,
    /// Start of the line, and where the next glyph goes.
    line: (f32, f32),
    at: (f32, f32),
    /// Where the last glyph ended.
    last: Option<(f32, f32)>,
}

impl Pen {
    fn new(max: usize) -> Self {
        let (line, at) = ((0.0, 0.0), (0.0, 0.0));
        Pen {
            text: String::new(),
            max,
            font: None,
            size: 10.0,
            scale: 1.0,
            leading: 0.0,
            line,
            at,
            last: None,
        }
    }

    fn operate(&mut self, operator: &str, args: &[Object], font: Option<&Font<'_>>) {
        let n = |i: usize| number(args.get(i));
        match operator {
            "BT" => {
                self.scale = 1.0;
                self.go(0.0, 0.0);
            }
            "TL" => self.leading = n(0),
            "Td" => self.next(n(0), n(1)),
            "TD" => {
                self.leading = -n(1);
                self.next(n(0), n(1));
            }
            "T*" => self.next(0.0, -self.leading),
            "Tm" => {
                self.scale = n(0).hypot(n(1)).max(1e-3);
                self.go(n(4), n(5));
            }
            "Tj" => self.show(args.first(), font),
            "'" => {
                self.next(0.0, -self.leading);
                self.show(args.first(), font);
            }
            "\"" => {
                self.next(0.0, -self.leading);
                self.show(args.get(2), font);
            }
            "TJ" => {
                for o in args.first().and_then(|a| a.as_array().ok()).into_iter().flatten() {
                    if matches!(o, Object::String(..)) {
                        self.show(Some(o), font);
                    } else {
                        self.at.0 -= number(Some(o)) / 1000.0 * self.em();
                    }
                }
            }
            _ => {}
        }
    }

    fn em(&self) -> f32 {
        (self.size * self.scale).max(1e-3)
    }

    fn go(&mut self, x: f32, y: f32) {
        self.line = (x, y);
        self.at = self.line;
    }

    fn next(&mut self, dx: f32, dy: f32) {
        self.go(self.line.0 + dx * self.scale, self.line.1 + dy * self.scale);
    }

    fn show(&mut self, string: Option<&Object>, font: Option<&Font<'_>>) {
        let (Some(Ok(bytes)), Some(font)) = (string.map(Object::as_str), font) else { return };
        if self.text.len() > self.max {
            return;
        }
        self.space();
        let start = self.text.len();
        if let Some(decode) = &font.decode {
            decode(bytes, &mut self.text);
        }
        let added = self.text.get(start..).unwrap_or_default();
        if added.contains(|c: char| LIGATURES.contains(c) || c == '\u{FFFD}' || (c.is_control() && c != '\n'))
        {
            let clean: String = added.chars().filter(|c| !c.is_control() && *c != '\u{FFFD}').collect();
            let clean = unligature(&clean);
            self.text.truncate(start);
            self.text.push_str(&clean);
        }
        self.at.0 += font.width(bytes) * self.em();
        self.last = Some(self.at);
    }

    /// What stands between the last glyph and the next: nothing, a space, a line's or a paragraph's end.
    fn space(&mut self) {
        let Some((x, y)) = self.last else { return };
        let em = self.em();
        let down = (y - self.at.1) / em;
        if down.abs() > 0.4 {
            let before = self.text.trim_end_matches(' ').len();
            self.text.truncate(before);
            if (-0.4..1.9).contains(&down) || self.text.is_empty() {
                // A word hyphenated over the line's end is one word.
                let hyphenated =
                    self.text.strip_suffix('-').is_some_and(|t| t.ends_with(|c: char| c.is_lowercase()));
                if hyphenated {
                    self.text.pop();
                } else if !self.text.ends_with('\n') {
                    self.text.push('\n');
                }
            } else if !self.text.ends_with("\n\n") {
                self.text.push_str(if self.text.ends_with('\n') { "\n" } else { "\n\n" });
            }
        } else if (self.at.0 - x > 0.16 * em || x - self.at.0 > 2.0 * em) && !self.text.ends_with([' ', '\n'])
        {
            self.text.push(' ');
        }
    }
}

const LIGATURES: &str = "ﬀﬁﬂﬃﬄ";

fn unligature(s: &str) -> String {
    let mut t = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            'ﬀ' => t.push_str("ff"),
            'ﬁ' => t.push_str("fi"),
            'ﬂ' => t.push_str("fl"),
            'ﬃ' => t.push_str("ffi"),
            'ﬄ' => t.push_str("ffl"),
            c => t.push(c),
        }
    }
    t
}
