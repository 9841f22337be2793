//! What a command says, line by line, as fast as it says it: whoever writes never waits for us, and nothing is kept but the line
//! that is being read.

use std::borrow::Cow;
use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A line is cut here, in bytes.
pub(super) const LINE: usize = 8 << 10;
/// What is read at a time.
const PIECE: usize = 64 << 10;

/// Cuts bytes into lines: UTF-8 as far as it is, without their ends; of a line that a progress bar wrote over and over, what
/// stands last. Where the bytes are cut into pieces does not matter.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// How much of the line was left out.
    cut: u64,
}

impl Lines {
    pub(super) fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&str)) {
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = bytes.split_at(end);
            let ends = rest.first() == Some(&b'\n');
            // What follows a carriage return writes over what was there, if anything does.
            if self.line.last() == Some(&b'\r') && !line.is_empty() {
                self.clear();
            }
            self.add(line);
            if ends {
                self.end(each);
            } else if self.line.last() != Some(&b'\r') {
                self.line.truncate(LINE - 1);
                self.line.push(b'\r');
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        if !bytes.is_empty() && self.line.last() == Some(&b'\r') {
            self.clear();
        }
        self.add(bytes);
    }

    /// The last line, if it has no end.
    pub(super) fn finish(&mut self, each: &mut dyn FnMut(&str)) {
        if !self.line.is_empty() {
            self.end(each);
        }
    }

    fn clear(&mut self) {
        self.line.clear();
        self.cut = 0;
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(LINE - self.line.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.cut = self.cut.saturating_add((bytes.len() - room) as u64);
    }

    fn end(&mut self, each: &mut dyn FnMut(&str)) {
        let bytes = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let text = String::from_utf8_lossy(bytes);
        match self.cut {
            0 => each(&text),
            n => each(&format!("{} … [{n} bytes more]", text.trim_end_matches('\u{fffd}'))),
        }
        self.clear();
    }
}

/// Reads to the end. What cannot be read is the end.
pub(super) async fn drain(from: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let (mut from, mut lines, mut piece) = (from, Lines::default(), vec![0; PIECE]);
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        lines.push(piece.get(..n).unwrap_or_default(), &mut each);
    }
    lines.finish(&mut each);
}

/// The values of variables that are secrets by their names: they are taken out of what a command says.
#[derive(Clone, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those among the variables.
    pub(super) fn among<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        const SECRET: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"];
        let is_secret = |name: &str| SECRET.iter().any(|s| name.to_ascii_uppercase().contains(s));
        // What is shorter would be found in words that have nothing to do with it.
        let mut all: Vec<String> = variables
            .filter(|(name, value)| is_secret(name) && value.len() >= 6)
            .map(|(_, value)| value.to_owned())
            .collect();
        // The longer first, since one may hold another.
        all.sort_by_key(|s| std::cmp::Reverse(s.len()));
        Secrets(all)
    }

    /// The line without them.
    pub(super) fn hide<'a>(&self, line: &'a str) -> Cow<'a, str> {
        self.0.iter().fold(Cow::Borrowed(line), |line, secret| match line.contains(secret.as_str()) {
            true => Cow::Owned(line.replace(secret.as_str(), "***")),
            false => line,
        })
    }
}

/// The last lines of a stream, for the error that its command ends with.
#[derive(Debug, Default)]
pub(super) struct Last(VecDeque<String>);

impl Last {
    const LINES: usize = 10;
    const CHARS: usize = 400;

    pub(super) fn push(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.0.len() == Self::LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.chars().take(Self::CHARS).collect());
    }

    /// The last of them, on one line.
    pub(super) fn few(&self) -> String {
        let from = self.0.len().saturating_sub(3);
        self.0.iter().skip(from).map(|l| l.trim()).collect::<Vec<_>>().join(" | ")
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut all, mut lines) = (Vec::new(), Lines::default());
        let mut each = |l: &str| all.push(l.to_owned());
        pieces.iter().for_each(|p| lines.push(p, &mut each));
        lines.finish(&mut each);
        all
    }

    #[test]
    fn lines_end_as_on_any_system_and_a_progress_bar_is_its_last_state() {
        assert_eq!(lines(&[b"a\r\nb\n\nc"]), ["a", "b", "", "c"]);
        assert_eq!(lines(&[b" 10%\r 50%\r100%\ndone"]), ["100%", "done"]);
        assert_eq!(lines(&[b"\xff\xfeabc\n"]), ["\u{fffd}\u{fffd}abc"]);
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn a_line_without_an_end_is_cut_and_says_by_how_much() {
        let long = vec![b'x'; LINE + 90];
        assert_eq!(lines(&[&long, b"\nb"]), [format!("{} … [90 bytes more]", "x".repeat(LINE)), "b".into()]);
        let mut split = vec![b'x'; LINE - 1];
        split.extend("ä\n".bytes());
        assert_eq!(lines(&[&split]), [format!("{} … [1 bytes more]", "x".repeat(LINE - 1))]);
    }

    #[test]
    fn a_secret_is_taken_out_of_what_is_said_and_short_values_and_other_variables_are_not() {
        let all = [
            ("API_KEY", "sk-123456"),
            ("LONG_TOKEN", "sk-123456789"),
            ("MY_KEY", "ab"),
            ("HOME", "/home/me"),
        ];
        let secrets = Secrets::among(all.into_iter());
        assert_eq!(secrets.hide("x sk-123456789, sk-123456 ab /home/me"), "x ***, *** ab /home/me");
    }

    proptest! {
        #[test]
        fn where_the_pieces_end_changes_nothing(bytes in "[a\\n\\rä]{0,40}", cuts in proptest::collection::vec(0..60_usize, 0..5)) {
            let bytes = bytes.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let (mut pieces, mut at) = (Vec::new(), 0);
            for c in cuts {
                pieces.push(&bytes[at..c]);
                at = c;
            }
            prop_assert_eq!(lines(&pieces), lines(&[bytes]));
        }
    }
}
