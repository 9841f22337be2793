//! Kinds of stages by name. Each layer above registers the kinds it knows; the configuration refers to them by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, Context, Error, Stage, StageName, Value};
use serde_json::Value as Json;

/// A kind of stage: `extractive`, `chunk`, `generate`, …
pub trait StageKind: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// JSON Schema of its configuration object: validation, editors and the reference are made of it.
    fn schema(&self) -> Json;

    /// Makes a stage. `config` has passed the schema.
    ///
    /// Reports every problem, not only the first.
    fn build(&self, config: &Json, site: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>>;

    /// The files that `build` reads for this configuration, relative to the project's folder: when one of them changes, a
    /// stage built again is another.
    fn files(&self, _config: &Json) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What else a stage of this configuration is made of, by name, with a hash: when one of them changes, its output is another.
    fn made_of(&self, _config: &Json) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What of an element counts, of a stage that is run for each: an element of which that is equal gives an equal output.
    /// `None`: all of it.
    fn of_element(&self, _config: &Json, _element: &Json) -> Option<Json> {
        None
    }

    /// Whether it makes sense in durable runs alone: one such stage makes a pipeline durable.
    fn durable(&self) -> bool {
        false
    }

    /// The fields of its configuration that are read as code when they are texts: by a shell, as SQL. What a caller chose is
    /// filled into them only where it is no more than a word.
    fn code(&self) -> &'static [&'static str] {
        &[]
    }

    /// The fields of its configuration that are templates, rendered with what the stage is given. What a caller chose goes into them
    /// as a value.
    fn templates(&self) -> &'static [TextField] {
        &[]
    }

    /// The fields of its configuration that name files, as a text or a list of them. What a caller chose is filled into them only
    /// where it leads nowhere else: no `..`, no pattern, and not the beginning of an absolute path.
    fn paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the output of a stage of this configuration depends on nothing but that, its files and its inputs, so that a
    /// durable run may take it from an earlier one.
    fn cached(&self, _config: &Json) -> bool {
        true
    }

    /// Another one when the same stage gives something else than an earlier version of this program did.
    fn version(&self) -> u32 {
        1
    }

    /// What a stage of this kind shows its caller unless the configuration says otherwise.
    fn shows(&self) -> Shows {
        Shows::Nothing
    }
}

/// A field that is a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextField {
    /// Its name.
    pub name: &'static str,
    /// Values may stand in quotes there: one with quotes of its own would end them. What is not a text is no template.
    pub quoted: bool,
}

impl TextField {
    /// One without quotes; texts in it are templates, however deep.
    pub const fn plain(name: &'static str) -> Self {
        TextField { name, quoted: false }
    }

    /// One in which values may stand in quotes.
    pub const fn quoted(name: &'static str) -> Self {
        TextField { name, quoted: true }
    }
}

/// What the output of a stage is to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Nothing but its state.
    Nothing,
    /// A draft: something useful at once, replaced later.
    Draft,
    /// The answer, piece by piece.
    Deltas,
}

/// Where a stage stands in the configuration.
#[derive(Debug)]
pub struct Site<'a> {
    /// Its name.
    pub name: &'a StageName,
    /// Whether it runs once for each element of another's output; the element is its input `item`, and the
    /// element's place its input `index`.
    pub each: bool,
}

/// Something wrong in a stage's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer into the stage's configuration object, empty for the object itself.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Reads and writes the tables of stages that are run for each row, as files of JSON lines.
pub trait Tables: Send + Sync {
    /// Writes the rows of a table into a file in `folder`, an object a line.
    fn rows<'a>(&'a self, table: &'a str, folder: &'a Path) -> BoxFuture<'a, Result<PathBuf, Error>>;

    /// Makes a table of the rows in a file: once for the attempt's effect, however often it is tried. `types` are those of columns
    /// that are known, by the names that the configuration of datasets has.
    fn table<'a>(
        &'a self,
        cx: &'a Context,
        rows: &'a Path,
        types: &'a [(String, &'static str)],
    ) -> BoxFuture<'a, Result<Value, Error>>;
}

/// All kinds of stages of this binary.
#[derive(Default, Clone)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Arc<dyn StageKind>>,
    tables: Option<Arc<dyn Tables>>,
}

impl Registry {
    /// Adds a kind; a later one of the same name replaces it.
    pub fn register(&mut self, kind: impl StageKind + 'static) {
        self.kinds.insert(kind.name(), Arc::new(kind));
    }

    /// Who reads and writes the tables of stages that are run for each row.
    pub fn set_tables(&mut self, tables: Arc<dyn Tables>) {
        self.tables = Some(tables);
    }

    /// Who reads and writes tables, if anybody does.
    pub fn tables(&self) -> Option<&Arc<dyn Tables>> {
        self.tables.as_ref()
    }

    /// The kind of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn StageKind>> {
        self.kinds.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }

    /// All kinds, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn StageKind>> + '_ {
        self.kinds.values()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
