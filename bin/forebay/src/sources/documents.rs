//! A folder of documents as rows: what each is called, how large it is, its hash, its kind, its text, and when it was changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use contract::UnixMillis;
use data::ColumnType;
use serde_json::json;
use text::extract;

use crate::Error;

/// Of what is larger no text is taken.
const LARGEST: u64 = 32 << 20;
/// The deepest folder.
const DEPTH: usize = 32;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listed {
    /// Files.
    pub files: u64,
    /// Those that are no documents whose text can be taken, or hold none.
    pub without_text: u64,
}

/// The columns and their types.
pub fn types() -> BTreeMap<String, ColumnType> {
    let columns = [
        ("path", ColumnType::Text),
        ("bytes", ColumnType::Int),
        ("hash", ColumnType::Text),
        ("media_type", ColumnType::Text),
        ("text", ColumnType::Text),
        ("modified", ColumnType::Timestamp),
    ];
    columns.into_iter().map(|(name, ty)| (name.to_owned(), ty)).collect()
}

/// Writes a line of JSON for each file of a folder and the folders below it, in the order of their paths. Links are not
/// followed; what is hidden is passed over. Blocks.
///
/// # Errors
/// A folder or a file that cannot be read.
pub fn list(root: &Path, to: &Path) -> Result<Listed, Error> {
    let mut paths = Vec::new();
    walk(root, 0, &mut paths)?;
    paths.sort();
    if paths.is_empty() {
        let help = "put documents there, or name another folder";
        return Err(Error::new(format!("{} holds no files", root.display()), help));
    }
    let written = |e: std::io::Error| Error::file("write", to, &e);
    let mut out = BufWriter::new(File::create(to).map_err(written)?);
    let mut listed = Listed::default();
    for path in &paths {
        let row = row(root, path)?;
        listed.files += 1;
        listed.without_text += u64::from(row.get("text").is_some_and(serde_json::Value::is_null));
        writeln!(out, "{row}").map_err(written)?;
    }
    out.flush().map_err(written)?;
    Ok(listed)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::file("read", folder, &e);
    if depth > DEPTH {
        let help = "name a folder further down";
        return Err(Error::new(format!("{} lies deeper than {DEPTH} folders", folder.display()), help));
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            walk(&entry.path(), depth + 1, found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn row(root: &Path, path: &Path) -> Result<serde_json::Value, Error> {
    let failed = |e: std::io::Error| Error::file("read", path, &e);
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
    let mut hasher = blake3::Hasher::new();
    let mut kept = Vec::new();
    let media = extract::media_of_name(&name);
    let mut size = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(failed)?;
        let bytes = buffer.get(..n).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        size += n as u64;
        if media.is_some() && size <= LARGEST {
            kept.extend_from_slice(bytes);
        }
    }
    let text = match media {
        Some(media) if size <= LARGEST => {
            extract::extract(&kept, Some(media), &extract::Limits::default()).ok().map(|d| d.text)
        }
        _ => None,
    };
    let modified = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = modified.map(|d| UnixMillis(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)).rfc3339());
    Ok(json!({
        "path": name,
        "bytes": size,
        "hash": hasher.finalize().to_hex().as_str(),
        "media_type": media.map_or("application/octet-stream", media_type),
        "text": text.as_deref(),
        "modified": modified,
    }))
}

fn media_type(media: contract::Media) -> &'static str {
    match media {
        contract::Media::Plain => "text/plain",
        contract::Media::Markdown => "text/markdown",
        contract::Media::Html => "text/html",
        contract::Media::Pdf => "application/pdf",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_row_and_documents_have_their_text() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/b.md"), "# Title\n\nBody").unwrap();
        std::fs::write(folder.path().join("a.bin"), [0, 1, 2]).unwrap();
        std::fs::write(folder.path().join(".hidden"), "x").unwrap();
        let to = folder.path().join(".rows");
        assert_eq!(list(folder.path(), &to).unwrap(), Listed { files: 2, without_text: 1 });
        let text = std::fs::read_to_string(&to).unwrap();
        let rows: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((&rows[0]["path"], &rows[0]["bytes"]), (&json!("a.bin"), &json!(3)));
        assert_eq!((&rows[1]["path"], &rows[1]["media_type"]), (&json!("sub/b.md"), &json!("text/markdown")));
        assert!(rows[1]["text"].as_str().unwrap().contains("Body"));
        assert_eq!(rows[1].as_object().unwrap().len(), types().len());
    }
}
