//! Collects text and sections while a document is read. Keeps the text bounded and the spans in order.

use contract::{Document, Error, Media, Section};

use super::too_large;

/// Longest heading that is kept as such, in bytes: longer ones are cut.
const MAX_HEADING: usize = 300;

/// What has been read so far.
pub(super) struct Builder {
    text: String,
    max: usize,
    title: Option<String>,
    sections: Vec<(String, u8, usize)>,
    open: Option<(u8, usize)>,
}

impl Builder {
    pub(super) fn new(max: usize) -> Self {
        Builder { text: String::new(), max, title: None, sections: Vec::new(), open: None }
    }

    /// Sets the title, the first time it is not blank.
    pub(super) fn title(&mut self, title: &str) {
        let title = one_line(title);
        if self.title.is_none() && !title.is_empty() {
            self.title = Some(title);
        }
    }

    /// Adds text as it is.
    pub(super) fn raw(&mut self, text: &str) -> Result<(), Error> {
        if self.text.len() + text.len() > self.max {
            return Err(too_large("the text of the document", self.max, "bytes"));
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Adds text with its blanks folded to one space.
    pub(super) fn inline(&mut self, text: &str) -> Result<(), Error> {
        if self.text.len() + text.len() > self.max {
            return Err(too_large("the text of the document", self.max, "bytes"));
        }
        for c in text.chars() {
            if c.is_whitespace() || c.is_control() {
                if !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
                    self.text.push(' ');
                }
            } else {
                self.text.push(c);
            }
        }
        Ok(())
    }

    /// Ends the line, unless it is empty.
    pub(super) fn line(&mut self) {
        self.trim();
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Ends the paragraph.
    pub(super) fn block(&mut self) {
        self.line();
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn trim(&mut self) {
        let kept = self.text.trim_end_matches([' ', '\t']).len();
        self.text.truncate(kept.max(self.open.map_or(0, |(_, start)| start)));
    }

    /// What follows is a heading, until [`Builder::end_heading`].
    pub(super) fn start_heading(&mut self, level: u8) {
        self.end_heading();
        self.block();
        self.open = Some((level, self.text.len()));
    }

    /// The heading ends here; an empty one is none.
    pub(super) fn end_heading(&mut self) {
        let Some((level, start)) = self.open.take() else { return };
        let heading = one_line(self.text.get(start..).unwrap_or_default());
        if !heading.is_empty() {
            self.sections.push((heading, level.clamp(1, 9), start));
        }
        self.block();
    }

    /// A section that starts here without showing its heading (a page).
    pub(super) fn section(&mut self, heading: String, level: u8) {
        self.block();
        self.sections.push((heading, level, self.text.len()));
    }

    /// A section starting at `at`, which must not lie before the last one's start.
    pub(super) fn section_at(&mut self, heading: &str, level: u8, at: usize) {
        self.sections.push((one_line(heading), level, at));
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn finish(mut self, media: Media) -> Document {
        self.end_heading();
        self.text.truncate(self.text.trim_end().len());
        let mut sections = Vec::with_capacity(self.sections.len());
        let mut starts = self.sections.iter().map(|s| s.2).skip(1);
        for (heading, level, start) in &self.sections {
            let next = starts.next().unwrap_or(self.text.len()).min(self.text.len());
            let body = self.text.get(*start..next).unwrap_or_default().trim_end();
            if !body.is_empty() {
                sections.push(Section {
                    heading: heading.clone(),
                    level: *level,
                    span: *start..start + body.len(),
                });
            }
        }
        let top = sections.first().filter(|s| s.level == 1 && media != Media::Pdf).map(|s| s.heading.clone());
        Document { title: self.title.or(top), media, text: self.text.into(), sections }
    }
}

fn one_line(s: &str) -> String {
    let mut line = s.split_whitespace().collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(MAX_HEADING));
    line
}
