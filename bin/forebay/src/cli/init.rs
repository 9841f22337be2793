//! `forebay init`: a project that works. Writes nothing when any of its files exists.

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::json;

use super::{Global, print, print_json};
use crate::Error;

/// The files, relative to the project's folder.
const FILES: [(&str, &str); 4] = [
    ("forebay.yaml", include_str!("init/forebay.yaml")),
    ("prompts/part.md", include_str!("init/part.md")),
    ("prompts/merge.md", include_str!("init/merge.md")),
    (".gitignore", ".env\n.forebay/\n"),
];

pub(super) fn run(global: &Global) -> Result<(), Error> {
    let folder = &global.project;
    if let Some((name, _)) = FILES.iter().find(|(name, _)| folder.join(name).exists()) {
        return Err(Error::new(
            format!("{} exists already", folder.join(name).display()),
            "choose an empty folder with --project: nothing is overwritten",
        ));
    }
    for (name, text) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::file("create", parent, &e))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        file.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| Error::file("write", &path, &e))?;
    }
    if global.json {
        let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        return print_json(&json!({"written": names}));
    }
    print("wrote forebay.yaml and its prompts\nnext: set OPENAI_API_KEY, then `forebay check`");
    Ok(())
}
