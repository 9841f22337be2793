//! Packed files: gzip, Zstandard, and a zip archive of one file. They are unpacked as they are read.
//!
//! **Bound.** Memory is that of the decoder. What unpacks to far more than data does is refused: a file of a few kilobytes must not
//! fill a disk. A sum that the packing holds is checked; a file that ends early is an error and never a shorter table.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::{DeflateDecoder, MultiGzDecoder};

use crate::Error;
use crate::error::Place;
use crate::source::decode;

/// How much larger than it is a file may be when it is unpacked, and the size below which nobody looks.
const RATIO: u64 = 2000;
const SMALL: u64 = 1 << 30;
/// The largest directory of an archive that is read.
const DIRECTORY: u64 = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Zip,
}

fn packing(file: &Path) -> Packing {
    match file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase().as_str() {
        "gz" | "gzip" => Packing::Gzip,
        "zst" | "zstd" => Packing::Zstd,
        "zip" => Packing::Zip,
        _ => Packing::Plain,
    }
}

/// Whether the name says that it is packed.
pub(super) fn is_packed(file: &Path) -> bool {
    packing(file) != Packing::Plain
}

/// Whether the name says that it is an archive, whose directory has the name of what is in it.
pub(super) fn is_archive(file: &Path) -> bool {
    packing(file) == Packing::Zip
}

/// The name of what is in it, which for a file that is not packed is its own.
pub(super) fn inner(file: &Path) -> Result<PathBuf, Error> {
    match packing(file) {
        Packing::Plain => Ok(file.to_owned()),
        Packing::Gzip | Packing::Zstd => Ok(file.with_extension("")),
        Packing::Zip => {
            let mut opened = File::open(file).map_err(|e| decode::unreadable(file, &e))?;
            Ok(PathBuf::from(only_entry(&mut opened).map_err(|e| refused(file, e))?.name))
        }
    }
}

/// Opens a file, unpacked.
pub(super) fn open(file: &Path) -> Result<Box<dyn Read + Send>, Error> {
    let failed = |e: io::Error| decode::unreadable(file, &e);
    let mut opened = File::open(file).map_err(failed)?;
    let size = opened.metadata().map_err(failed)?.len();
    let buffered = |file: File| BufReader::with_capacity(1 << 16, file);
    let inner: Box<dyn Read + Send> = match packing(file) {
        Packing::Plain => return Ok(Box::new(opened)),
        Packing::Gzip => Box::new(MultiGzDecoder::new(buffered(opened))),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(opened).map_err(failed)?),
        Packing::Zip => {
            let entry = only_entry(&mut opened).map_err(|e| refused(file, e))?;
            opened.seek(SeekFrom::Start(entry.data)).map_err(failed)?;
            let packed = buffered(opened).take(entry.packed);
            let inner: Box<dyn Read + Send> =
                if entry.deflated { Box::new(DeflateDecoder::new(packed)) } else { Box::new(packed) };
            Box::new(Summed { inner, crc: crc32fast::Hasher::new(), read: 0, entry })
        }
    };
    let most = size.saturating_mul(RATIO).max(SMALL);
    Ok(Box::new(Unpacked { inner, read: 0, most }))
}

/// Why an archive cannot be read, and what to do.
type Refused = (String, &'static str);

fn refused(file: &Path, (problem, remedy): Refused) -> Error {
    Error::source(Place::file(file), problem, remedy)
}

/// What is unpacked, as long as it stays within reason. Errors of decoders become those of a damaged file.
struct Unpacked {
    inner: Box<dyn Read + Send>,
    read: u64,
    most: u64,
}

impl Read for Unpacked {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read > self.most {
            return Err(io::Error::other("it unpacks to more than data of its size can"));
        }
        let n = self.inner.read(out).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            _ => io::Error::new(io::ErrorKind::UnexpectedEof, format!("it cannot be unpacked: {e}")),
        })?;
        self.read += n as u64;
        Ok(n)
    }
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    deflated: bool,
    crc: u32,
    /// Bytes, as they are in the archive.
    packed: u64,
    /// Bytes, unpacked.
    size: u64,
    /// Where they begin.
    data: u64,
}

/// Compares what was read with what the archive's directory says, at the end.
struct Summed {
    inner: Box<dyn Read + Send>,
    crc: crc32fast::Hasher,
    read: u64,
    entry: Entry,
}

impl Read for Summed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.crc.update(out.get(..n).unwrap_or_default());
        self.read += n as u64;
        let ended = n == 0 && !out.is_empty();
        if ended && (self.read, self.crc.clone().finalize()) != (self.entry.size, self.entry.crc) {
            return Err(io::Error::other("it is not what the archive's directory says"));
        }
        Ok(n)
    }
}

const DAMAGED: &str = "the file may be truncated or damaged: fetch it again";
const UNPACK: &str = "unpack it, and name the file";

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// The one file of an archive. Folders and what macOS adds do not count.
fn only_entry(file: &mut File) -> Result<Entry, Refused> {
    let io = |e: io::Error| (e.to_string(), DAMAGED);
    let none = || ("it is no zip archive, or its end is missing".to_owned(), DAMAGED);
    let length = file.metadata().map_err(io)?.len();
    // The directory's place is said at the end, before a comment of at most 65,535 bytes.
    let tail = read_at(file, length.saturating_sub(22 + 65_535), 22 + 65_535).map_err(io)?;
    let end = tail.windows(22).rposition(|w| w.starts_with(b"PK\x05\x06")).ok_or_else(none)?;
    let said = |at: usize, length: usize| number(&tail, end + at, length).ok_or_else(none);
    let (count, size, begin) = (said(10, 2)?, said(12, 4)?, said(16, 4)?);
    if count == 0xffff || size == 0xffff_ffff || begin == 0xffff_ffff {
        return Err(("it is an archive of more than 4 GB (ZIP64), which is not read".to_owned(), UNPACK));
    }
    if size > DIRECTORY {
        return Err(("its directory is longer than 16 MiB".to_owned(), UNPACK));
    }
    let directory = read_at(file, begin, size).map_err(io)?;
    let mut found: Vec<(Entry, u64, u64)> = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let said = |offset: usize, length: usize| number(&directory, at + offset, length).ok_or_else(none);
        if said(0, 4)? != 0x0201_4b50 {
            return Err(none());
        }
        let lengths =
            [said(28, 2)?, said(30, 2)?, said(32, 2)?].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let name = directory.get(at + 46..at + 46 + lengths[0]).ok_or_else(none)?;
        let name = String::from_utf8_lossy(name).into_owned();
        let entry = Entry {
            deflated: said(10, 2)? == 8,
            crc: u32::try_from(said(16, 4)?).unwrap_or_default(),
            packed: said(20, 4)?,
            size: said(24, 4)?,
            data: said(42, 4)?,
            name,
        };
        if !entry.name.ends_with('/') && !entry.name.starts_with("__MACOSX/") {
            found.push((entry, said(8, 2)?, said(10, 2)?));
        }
        at += 46 + lengths.iter().sum::<usize>();
    }
    let names = |found: &[(Entry, u64, u64)]| {
        let names: Vec<_> = found.iter().take(5).map(|(e, ..)| format!("`{}`", e.name)).collect();
        names.join(", ")
    };
    let (mut entry, flags, method) = match found.as_slice() {
        [] => return Err(("the archive holds no file".to_owned(), UNPACK)),
        [one] => one.clone(),
        more => {
            let problem = format!("the archive holds {} files: {}", more.len(), names(more));
            return Err((problem, "unpack it, and name the folder or one of the files"));
        }
    };
    if flags & 1 != 0 {
        return Err(("the archive is encrypted".to_owned(), UNPACK));
    }
    if !matches!(method, 0 | 8) {
        return Err((format!("it is packed by the method {method}, which is not read"), UNPACK));
    }
    if entry.packed == 0xffff_ffff || entry.size == 0xffff_ffff || entry.data == 0xffff_ffff {
        return Err(("it is an archive of more than 4 GB (ZIP64), which is not read".to_owned(), UNPACK));
    }
    let head = read_at(file, entry.data, 30).map_err(io)?;
    let said = |at: usize, length: usize| number(&head, at, length).ok_or_else(none);
    if said(0, 4)? != 0x0403_4b50 {
        return Err(none());
    }
    entry.data += 30 + said(26, 2)? + said(28, 2)?;
    Ok(entry)
}

/// At most so many bytes from there on.
fn read_at(file: &mut File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder};
    use proptest::prelude::*;

    use super::*;

    /// An archive of these files.
    pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut archive, mut directory) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let mut packer = DeflateEncoder::new(Vec::new(), Compression::default());
            packer.write_all(bytes).unwrap();
            let packed = packer.finish().unwrap();
            let at = archive.len() as u32;
            let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
            common.extend(crc32fast::hash(bytes).to_le_bytes());
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((bytes.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend(0u16.to_le_bytes());
            archive.extend(b"PK\x03\x04");
            archive.extend(&common);
            archive.extend(name.as_bytes());
            archive.extend(&packed);
            directory.extend(b"PK\x01\x02\x14\x00");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(at.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let begin = archive.len() as u32;
        archive.extend(&directory);
        archive.extend(b"PK\x05\x06\0\0\0\0");
        archive.extend((files.len() as u16).to_le_bytes());
        archive.extend((files.len() as u16).to_le_bytes());
        archive.extend((directory.len() as u32).to_le_bytes());
        archive.extend(begin.to_le_bytes());
        archive.extend(0u16.to_le_bytes());
        archive
    }

    fn read(name: &str, bytes: &[u8]) -> Result<(PathBuf, Vec<u8>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let inner = inner(&path).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        let mut reader = open(&path).map_err(|e| e.to_string())?;
        reader.read_to_end(&mut all).map_err(|e| e.to_string())?;
        Ok((inner.file_name().unwrap().into(), all))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_packed_file_is_what_was_packed_under_its_own_name() {
        let text = b"a,b\n1,2\n".repeat(1000);
        assert_eq!(read("x.csv.gz", &gzip(&text)), Ok(("x.csv".into(), text.clone())));
        let twice = [gzip(&text), gzip(&text)].concat();
        assert_eq!(read("x.csv.gz", &twice).unwrap().1.len(), 2 * text.len());
        let zst = zstd::encode_all(text.as_slice(), 3).unwrap();
        assert_eq!(read("x.csv.zst", &zst), Ok(("x.csv".into(), text.clone())));
        let archive = zip(&[("__MACOSX/._y.tsv", b"x"), ("y.tsv", &text)]);
        assert_eq!(read("x.zip", &archive), Ok(("y.tsv".into(), text)));
    }

    #[test]
    fn a_packed_file_that_ends_early_or_is_damaged_is_an_error_wherever_that_is() {
        let text: Vec<u8> =
            (0..20_000u32).flat_map(|n| format!("{n},{}\n", n * 7919 % 1009).into_bytes()).collect();
        for (name, packed) in [
            ("x.csv.gz", gzip(&text)),
            ("x.csv.zst", zstd::encode_all(text.as_slice(), 3).unwrap()),
            ("x.zip", zip(&[("x.csv", &text)])),
        ] {
            for share in [1, 2, 3, 5, 9] {
                let cut = packed.len() * share / 10;
                let said = read(name, &packed[..cut]).unwrap_err();
                assert!(said.contains("unpacked") || said.contains("archive"), "{said}");
            }
            let mut damaged = packed.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            let read = read(name, &damaged);
            // Zstandard has no sum unless it is asked for, but what is damaged in the middle is seldom well formed.
            assert!(read.is_err() || name.ends_with("zst"), "{name}");
        }
    }

    #[test]
    fn an_archive_that_is_not_of_one_file_is_refused_with_what_it_holds() {
        let said = read("x.zip", &zip(&[("a.csv", b"a\n1\n"), ("b.csv", b"b\n2\n")])).unwrap_err();
        assert!(said.contains("2 files: `a.csv`, `b.csv`"), "{said}");
        assert!(read("x.zip", &zip(&[])).unwrap_err().contains("no file"));
        assert!(read("x.zip", b"PK").unwrap_err().contains("no zip archive"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_break_the_reader_of_archives(at in 0usize..200, with: u8, cut in 0usize..200) {
            let mut archive = zip(&[("a.csv", b"a,b\n1,2\n3,4\n")]);
            if let Some(byte) = archive.get_mut(at) {
                *byte = with;
            }
            archive.truncate(archive.len().saturating_sub(cut));
            let _ = read("x.zip", &archive);
        }
    }
}
