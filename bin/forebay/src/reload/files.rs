//! The files a configuration is made of: the file itself, `.env`, the price table and what its stages read; and what is in
//! them, as a hash. Files of models are not among them: they are large, and looked at when the configuration is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use pipeline::Registry;

use crate::config::{Config, FILE};
use crate::inventory::TABLE;

/// Where secrets may stand besides the environment.
const ENV: &str = ".env";

/// Files by their path as the configuration has it, each with the hash of what is in it; `None` when it cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files(BTreeMap<PathBuf, Option<blake3::Hash>>);

impl Files {
    /// The files of a configuration as they are now.
    pub(super) fn of(project: &Path, config: &Config, registry: &Registry) -> Files {
        let table = config.prices.as_deref().unwrap_or(TABLE);
        let stages = config.pipelines.values().flat_map(|p| &p.stages).map(|s| &s.0);
        let read = stages.flat_map(|s| registry.get(&s.kind).map(|k| k.files(&s.config)).unwrap_or_default());
        let names = [FILE, ENV, table].map(PathBuf::from).into_iter().chain(read);
        let names = names.chain(config.prompts.values().map(|p| PathBuf::from(&p.file)));
        Files(names.map(|path| (path.clone(), hash(&project.join(path)))).collect())
    }

    /// Those that every configuration has.
    pub(super) fn every(project: &Path) -> Files {
        Files([FILE, ENV].map(|name| (PathBuf::from(name), hash(&project.join(name)))).into())
    }

    /// The same files as they are now.
    pub(super) fn again(&self, project: &Path) -> Files {
        Files(self.0.keys().map(|path| (path.clone(), hash(&project.join(path)))).collect())
    }

    /// The same with what `earlier` found in some of them.
    pub(super) fn with(mut self, earlier: &Files) -> Files {
        self.0.extend(earlier.0.iter().map(|(path, hash)| (path.clone(), *hash)));
        self
    }

    /// One hash of all: equal files, equal version.
    pub(super) fn version(&self) -> String {
        let mut all = blake3::Hasher::new();
        for (path, hash) in self.0.iter().filter_map(|(p, h)| Some((p, (*h)?))) {
            all.update(path.as_os_str().as_encoded_bytes()).update(&[0]).update(hash.as_bytes());
        }
        all.finalize().to_hex().get(..12).unwrap_or_default().to_owned()
    }

    /// Which are not as they were, and how: `added`, `removed`, `changed`.
    pub(super) fn differences<'a>(
        &'a self,
        after: &'a Files,
    ) -> impl Iterator<Item = (&'a Path, &'static str)> + 'a {
        let paths: BTreeSet<&PathBuf> = self.0.keys().chain(after.0.keys()).collect();
        let of = |files: &Files, path: &PathBuf| files.0.get(path).copied().flatten();
        paths.into_iter().filter_map(move |path| match (of(self, path), of(after, path)) {
            (None, Some(_)) => Some((path.as_path(), "added")),
            (Some(_), None) => Some((path.as_path(), "removed")),
            (a, b) if a != b => Some((path.as_path(), "changed")),
            _ => None,
        })
    }

    /// The folders in which a change of any of them is seen: where each is, and, for a link, where that leads.
    pub(super) fn folders(&self, project: &Path) -> BTreeSet<PathBuf> {
        let of = |path: &Path| {
            path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p }.to_owned())
        };
        let own = self.0.keys().flat_map(|path| {
            let path = project.join(path);
            [of(&path), std::fs::canonicalize(&path).ok().and_then(|real| of(&real))]
        });
        own.flatten().map(|folder| plain(&folder)).filter(|folder| folder.is_dir()).collect()
    }
}

/// One name for a folder that may be written in several ways.
fn plain(folder: &Path) -> PathBuf {
    std::fs::canonicalize(folder)
        .unwrap_or_else(|_| folder.components().filter(|c| *c != Component::CurDir).collect())
}

fn hash(path: &Path) -> Option<blake3::Hash> {
    crate::config::read(path).ok().map(|bytes| blake3::hash(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::kinds_for_check;

    #[test]
    fn the_version_is_that_of_all_files_that_the_configuration_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let config: Config = serde_json::from_value(serde_json::json!({
            "prices": "p.json",
            "pipelines": {"a": {"stages": [{"s": {"generate": {"model": "m", "prompt": "prompts/a.md",
                "collapse": {"prompt": "prompts/b.md"}}}}]}},
        }))
        .unwrap();
        let files = || Files::of(folder.path(), &config, &kinds_for_check(folder.path()));
        for name in [FILE, ".env", "p.json", "prompts/a.md", "prompts/b.md"] {
            let before = files();
            write(name, "one");
            let added = files();
            write(name, "two");
            let changed = files();
            write(name, "one");
            assert_eq!(files(), added, "{name}");
            let told = |a: &Files, b: &Files| {
                a.differences(b).map(|(p, what)| (p.display().to_string(), what)).collect::<Vec<_>>()
            };
            assert_eq!(told(&before, &added), [(name.to_owned(), "added")]);
            assert_eq!(told(&added, &changed), [(name.to_owned(), "changed")]);
            assert_eq!(told(&added, &before), [(name.to_owned(), "removed")]);
            assert!(before.version() != added.version() && added.version() != changed.version(), "{name}");
        }
        write("unnamed", "one");
        let (now, again) = (files(), files().again(folder.path()));
        assert_eq!(now, again);
        assert_eq!(now.folders(folder.path()).len(), 2, "the project's and that of the prompts");
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_that_a_link_leads_to_is_watched_too() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(elsewhere.path().join("real"), "x").unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("real"), folder.path().join(FILE)).unwrap();
        let folders = Files::every(folder.path()).folders(folder.path());
        assert!(
            folders.contains(&plain(folder.path())) && folders.contains(&plain(elsewhere.path())),
            "{folders:?}"
        );
    }
}
