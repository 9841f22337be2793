//! What prompts say: words of a seeded generator, or the user's own documents.
//!
//! One text is made once, and a prompt is a stretch of it at a random place: a request costs a copy, no drawing of
//! words. Every prompt begins with its number, so that no cache answers it unless it is meant to.

use std::path::Path;

use bytes::Bytes;
use contract::Media;
use text::extract::media_of_name;

use super::random::Random;
use crate::Error;

/// Words of the text that prompts are cut from: with a thousand per request, some hundred thousand different ones.
const WORDS: usize = 200_000;
/// The most bytes of documents that are kept in memory.
const DOCUMENTS_LIMIT: u64 = 1 << 30;

/// Frequent English words, the most frequent first: nearly all are one token of the usual vocabularies.
const VOCABULARY: &str = "the of and to in that is was for it with as his on be at by had not are but from or have an they which one \
    you were all her she there would their we him been has when who will no more if out so up said what its about than into them can \
    only other time new some could these two may first then do any like my now over such our man me even most made after also did many \
    off before must well back through years much where your way down should because long each just state those people how too good world \
    year still see own work men day get here between both life being under three never know same last another while us might great old \
    go come since against right came take states used himself few house use during without again place around however home small found \
    part school thought went say general once upon high left every government system program question number point water company service \
    order case group public country office power business report market price contract budget research result process control record \
    account section table figure letter copy value answer problem reason change course city road morning night hand head eye room door \
    light sound paper book story word line plan team field study model test data form class period season station bridge river land";

/// Where prompts come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Made up: a text, and where each of its words begins.
    Words { text: String, starts: Vec<u32> },
    /// Files, each of them a whole prompt.
    Documents(Vec<Document>),
}

/// A document of the user's.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// Its content type.
    pub(super) media: &'static str,
    /// Its bytes.
    pub(super) bytes: Bytes,
}

impl Source {
    /// A text of frequent words in sentences and paragraphs.
    pub(super) fn words(random: &mut Random) -> Source {
        let words: Vec<&str> = VOCABULARY.split_whitespace().collect();
        let mut text = String::with_capacity(WORDS * 6);
        let mut starts = Vec::with_capacity(WORDS);
        let (mut left, mut begins) = (0_usize, true);
        for _ in 0..WORDS {
            if left == 0 {
                if !text.is_empty() {
                    text.push_str(if random.below(6) == 0 { ".\n\n" } else { ". " });
                }
                left = 6 + random.below(16);
                begins = true;
            } else {
                text.push_str(if random.below(12) == 0 { ", " } else { " " });
            }
            left -= 1;
            starts.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            // By rank, evenly over its logarithm: about as words are spread in real text.
            let rank = (words.len() as f64).powf(random.unit()) as usize;
            let word = words.get(rank.saturating_sub(1)).copied().unwrap_or("the");
            match word.chars().next() {
                Some(first) if std::mem::take(&mut begins) => {
                    text.extend(first.to_uppercase());
                    text.push_str(word.get(first.len_utf8()..).unwrap_or_default());
                }
                _ => text.push_str(word),
            }
        }
        Source::Words { text, starts }
    }

    /// Every file of a folder, subfolders left out. `text_only`: what is no UTF-8 is refused.
    pub(super) fn documents(folder: &Path, text_only: bool) -> Result<Source, Error> {
        let unread = |e: &std::io::Error| Error::file("read", folder, e);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| unread(&e))? {
            let path = entry.map_err(|e| unread(&e))?.path();
            if path.is_file() {
                paths.push(path);
            }
        }
        // A folder has no order of its own, and equal seeds are to give equal plans.
        paths.sort();
        let (mut all, mut size) = (Vec::new(), 0_u64);
        for path in paths {
            let bytes = std::fs::read(&path).map_err(|e| Error::file("read", &path, &e))?;
            size += bytes.len() as u64;
            if size > DOCUMENTS_LIMIT {
                let message = format!("the documents in {} are more than 1 GiB", folder.display());
                return Err(Error::new(message, "put a sample of them into a folder of its own"));
            }
            if text_only && std::str::from_utf8(&bytes).is_err() {
                let help = "use --surface native for documents that are no text, or leave the file out";
                return Err(Error::new(format!("{} is no UTF-8 text", path.display()), help));
            }
            let media = match media_of_name(&path.to_string_lossy()) {
                Some(Media::Plain) => "text/plain",
                Some(Media::Markdown) => "text/markdown",
                Some(Media::Html) => "text/html",
                Some(Media::Pdf) => "application/pdf",
                None => "application/octet-stream",
            };
            all.push(Document { media, bytes: bytes.into() });
        }
        if all.is_empty() {
            let message = format!("there is no file in {}", folder.display());
            return Err(Error::new(message, "put documents into the folder that --documents names"));
        }
        Ok(Source::Documents(all))
    }

    /// The prompt of a request of about `tokens` tokens; a document is taken whole.
    pub(super) fn prompt(&self, number: u64, tokens: u32, seed: u64) -> Prompt<'_> {
        let mut random = Random::new(seed);
        match self {
            Source::Documents(all) => match all.get(random.below(all.len())) {
                Some(document) => Prompt::Document(document),
                None => Prompt::Text(String::new()),
            },
            Source::Words { text, starts } => {
                let wanted = usize::try_from(tokens).unwrap_or(usize::MAX);
                let mut prompt = format!("Text {number}. ");
                // A text that is longer than the whole of it begins again.
                let mut left = wanted;
                while left > 0 {
                    let n = left.min(starts.len());
                    let first = random.below(starts.len() - n + 1);
                    let at = |i: usize| starts.get(i).map_or(text.len(), |at| *at as usize);
                    prompt.push_str(text.get(at(first)..at(first + n)).unwrap_or_default());
                    left -= n.max(1);
                }
                Prompt::Text(prompt)
            }
        }
    }
}

/// What a request asks about.
#[derive(Debug)]
pub(super) enum Prompt<'a> {
    Text(String),
    Document(&'a Document),
}

#[cfg(test)]
mod tests {
    use llm::tokens::{Estimate, TokenCounter as _};
    use proptest::prelude::*;

    use super::*;

    fn text(source: &Source, number: u64, tokens: u32, seed: u64) -> String {
        match source.prompt(number, tokens, seed) {
            Prompt::Text(text) => text,
            Prompt::Document(d) => panic!("{} was not asked for", d.media),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn a_prompt_has_about_the_tokens_asked_for(seed in any::<u64>(), tokens in 50u32..5_000) {
            let source = Source::words(&mut Random::new(seed));
            let counted = Estimate.count(&text(&source, 7, tokens, seed)) as f64;
            prop_assert!((counted / f64::from(tokens) - 1.0).abs() < 0.35, "{counted} for {tokens}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_prompts_and_no_two_requests_ask_the_same() {
        let source = Source::words(&mut Random::new(1));
        assert_eq!(text(&source, 1, 100, 5), text(&source, 1, 100, 5));
        assert_ne!(text(&source, 1, 100, 5), text(&source, 2, 100, 5));
        assert!(text(&source, 1, 300_000, 5).len() > 1_000_000);
    }

    #[test]
    fn documents_are_sent_whole_and_what_is_no_text_is_refused_where_text_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Source::documents(folder.path(), false).is_err());
        std::fs::write(folder.path().join("a.md"), "# A").unwrap();
        let source = Source::documents(folder.path(), true).unwrap();
        match source.prompt(1, 5_000, 3) {
            Prompt::Document(d) => assert_eq!((&d.bytes[..], d.media), (&b"# A"[..], "text/markdown")),
            Prompt::Text(t) => panic!("{t}"),
        }
        std::fs::write(folder.path().join("b.pdf"), [0xFF, 0xFE]).unwrap();
        assert!(Source::documents(folder.path(), true).is_err());
        assert!(Source::documents(folder.path(), false).is_ok());
    }
}
