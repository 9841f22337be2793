//! Prompts that have versions: a stage names a file, and which text answers is chosen for each request ([`crate::choice`]).
//!
//! The file says what a prompt is given, and answers until a version does. A version that uses what the file does not is none of this
//! prompt's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{Context, Error};

use super::Prompt;
use crate::choice::{Chooser, Options};

/// Who chooses among versions of a prompt, and has their texts. Quick: it is on the way of every request.
pub trait Texts: Chooser {
    /// The text that an option stands for, while it is known.
    fn prompt(&self, option: &str) -> Option<Arc<Prompt>>;
}

/// The prompts of a project that have versions, by their files below its folder.
#[derive(Clone, Default)]
pub struct Prompts(BTreeMap<PathBuf, (Arc<str>, Arc<dyn Texts>)>);

impl Prompts {
    /// A prompt whose file is `path`, and by what name its choices are recorded.
    #[must_use]
    pub fn with(mut self, path: &Path, name: &str, texts: Arc<dyn Texts>) -> Self {
        self.0.insert(plain(path), (name.into(), texts));
        self
    }

    /// What a stage that names this file asks.
    pub(crate) fn source(&self, path: &Path, file: Prompt) -> Source {
        let chosen = self.0.get(&plain(path)).cloned();
        Source { file: Arc::new(file), chosen }
    }
}

/// A path as files of prompts are known by: `./prompts/a.md` is `prompts/a.md`.
pub fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// Where a stage has its prompt from.
pub(crate) struct Source {
    file: Arc<Prompt>,
    chosen: Option<(Arc<str>, Arc<dyn Texts>)>,
}

impl From<Prompt> for Source {
    fn from(file: Prompt) -> Self {
        Source { file: Arc::new(file), chosen: None }
    }
}

/// What stands for the file in records.
const FILE: &str = "file";

impl Source {
    /// What the file says: what every version of it is given.
    pub(crate) fn file(&self) -> &Prompt {
        &self.file
    }

    /// The prompt of a request: the same for all of it.
    pub(crate) fn of(&self, cx: &Context) -> Result<Arc<Prompt>, Error> {
        let Some((name, texts)) = &self.chosen else { return Ok(self.file.clone()) };
        let all = Options { name, what: "prompt", chooser: &**texts, first: FILE };
        // What a version uses this file gives: another configuration's may give more.
        let fits = |text: &Arc<Prompt>| text.variables.is_subset(&self.file.variables);
        let fitting = |option: &str| texts.prompt(option).filter(fits);
        let option = all.choose_for(cx, |option| fitting(option).is_some())?;
        Ok(fitting(&option).unwrap_or_else(|| self.file.clone()))
    }
}
