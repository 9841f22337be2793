//! A bucket of S3's protocol: how one is opened, and files in it that are no tables.
//!
//! A file is there whole or not at all: a short one by one request, a longer one in parts that become a file at its end. One that is
//! dropped before is given up, its parts too; what a killed process leaves of parts nobody sees, and a lifecycle rule of the bucket
//! (`AbortIncompleteMultipartUpload`) removes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use pipeline::task;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use crate::{Error, store};

/// What a file is sent in; as much of one is in memory, and one more is on its way.
const PART: usize = 8 << 20;

/// Opens the bucket that `s3://BUCKET/…` names, of which nothing is read yet. `env` is how to reach it, under the names that AWS's
/// own programs know.
///
/// # Errors
/// What is wrong with it, in words for whoever wrote the URL.
pub(crate) fn open(url: &Url, env: &BTreeMap<String, String>) -> Result<AmazonS3, String> {
    let bucket = url.host_str().ok_or("it names no bucket; write `s3://BUCKET/PREFIX`")?;
    let mut builder =
        AmazonS3Builder::new().with_bucket_name(bucket).with_conditional_put(S3ConditionalPut::ETagMatch);
    let http = |name: &&&str| env.get(**name).is_some_and(|at| at.starts_with("http:"));
    let allowed =
        env.get("AWS_ALLOW_HTTP").is_some_and(|said| said.eq_ignore_ascii_case("true") || said == "1");
    if let Some(name) = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find(http)
        && !allowed
    {
        return Err(format!("`{name}` is no https: set `AWS_ALLOW_HTTP=true` where nobody listens in"));
    }
    for (name, value) in env {
        // Variables that are about other programs of AWS's are passed over.
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.build().map_err(|e| e.to_string())
}

/// A failure, and whether another try makes sense: who is refused, or asks a bucket that is not there, will be so the next time.
fn failed(doing: &'static str, error: &object_store::Error) -> Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let refused = |why: String| Error::invalid("the bucket".to_owned(), why);
    match error {
        PermissionDenied { .. } | Unauthenticated { .. } => {
            refused(format!("it refuses to {doing}: {error}"))
        }
        NotFound { .. } => refused(format!("it is not there: nobody can {doing}: {error}")),
        other => store::failed(doing, other),
    }
}

/// Files below a prefix of a bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

/// What stands in a folder of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its own name there.
    pub name: String,
    /// In bytes; `None` of a folder.
    pub bytes: Option<u64>,
}

impl Bucket {
    /// That of `s3://BUCKET/PREFIX`, of which nothing is read yet. `env` is as in [`Settings`](crate::Settings)' `store`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what names no bucket.
    pub fn open(root: &str, env: &BTreeMap<String, String>) -> Result<Bucket, Error> {
        let refused = |why: String| Error::invalid(format!("the bucket `{root}`"), why);
        let url = Url::parse(root).map_err(|e| refused(e.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            let why =
                "its address holds credentials: they come from the environment (`AWS_ACCESS_KEY_ID`, …)";
            return Err(Error::invalid("the bucket".to_owned(), why));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("it ends in what is no path; write `s3://BUCKET/PREFIX`".to_owned()));
        }
        if url.scheme() != "s3" {
            return Err(refused("it does not begin with `s3://`".to_owned()));
        }
        let prefix = Path::from_url_path(url.path()).map_err(|e| refused(e.to_string()))?;
        Ok(Bucket { store: Arc::new(open(&url, env).map_err(refused)?), prefix: prefix.to_string() })
    }

    /// One that is in memory, for tests of what stands above.
    #[doc(hidden)]
    pub fn in_memory() -> Bucket {
        Bucket { store: Arc::new(object_store::memory::InMemory::new()), prefix: "below/it".to_owned() }
    }

    fn at(&self, path: &str) -> Result<Path, Error> {
        let refused =
            |e: object_store::path::Error| Error::invalid(format!("the path `{path}`"), e.to_string());
        Path::parse(format!("{}/{path}", self.prefix)).map_err(refused)
    }

    /// How long a file is; none when there is no such file.
    ///
    /// # Errors
    /// [`Error::Storage`], and [`Error::Invalid`] for a path that no file can have.
    pub async fn bytes(&self, path: &str) -> Result<Option<u64>, Error> {
        match self.store.head(&self.at(path)?).await {
            Ok(file) => Ok(Some(file.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed("look for a file of the bucket", &e)),
        }
    }

    /// Whether there is a file below a path.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub async fn is_folder(&self, path: &str) -> Result<bool, Error> {
        let path = self.at(path)?;
        let first = self.store.list(Some(&path)).next().await.transpose();
        Ok(first.map_err(|e| failed("list the bucket", &e))?.is_some())
    }

    /// What is in a folder, by name; nothing in one that there is not.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub async fn list(&self, path: &str) -> Result<Vec<Listed>, Error> {
        let folder = self.at(path)?;
        let listed = self.store.list_with_delimiter(Some(&folder)).await;
        let listed = listed.map_err(|e| failed("list the bucket", &e))?;
        let named = |path: &Path, bytes| path.filename().map(|name| Listed { name: name.to_owned(), bytes });
        let folders = listed.common_prefixes.iter().filter_map(|path| named(path, None));
        let files = listed.objects.iter().filter_map(|file| named(&file.location, Some(file.size)));
        let mut all: Vec<Listed> = folders.chain(files).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Begins a file. What was there before is there until it is finished.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a path that no file can have.
    pub fn create(&self, path: &str) -> Result<BucketWriter, Error> {
        let writer = BufWriter::with_capacity(Arc::clone(&self.store), self.at(path)?, PART);
        Ok(BucketWriter { writer: Some(writer.with_max_concurrency(2)) })
    }

    /// Opens a file; none when there is no such file.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub async fn read(&self, path: &str) -> Result<Option<BucketReader>, Error> {
        match self.store.get(&self.at(path)?).await {
            Ok(found) => Ok(Some(BucketReader { bytes: found.meta.size, pieces: found.into_stream() })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed("open a file of the bucket", &e)),
        }
    }

    /// Removes a file, or everything below a path. Whether there was something.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub async fn remove(&self, path: &str) -> Result<bool, Error> {
        let at = self.at(path)?;
        let failed = |e: object_store::Error| failed("remove files of the bucket", &e);
        let mut found = self.bytes(path).await?.is_some();
        if found {
            self.store.delete(&at).await.map_err(failed)?;
        }
        let below = self.store.list(Some(&at)).map_ok(|file| file.location).boxed();
        let mut gone = self.store.delete_stream(below);
        while gone.try_next().await.map_err(failed)?.is_some() {
            found = true;
        }
        Ok(found)
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct BucketWriter {
    /// Gone once it is finished.
    writer: Option<BufWriter>,
}

impl BucketWriter {
    /// Appends to it; waits while the bucket takes more time than whoever writes.
    ///
    /// # Errors
    /// [`Error::Storage`]: there will be no such file.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.put(piece).await.map_err(|e| failed("write a file of the bucket", &e))
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// [`Error::Storage`]: what was there before is there.
    pub async fn finish(mut self) -> Result<(), Error> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        let doing = "write a file of the bucket";
        writer.shutdown().await.map_err(|e| {
            let below = e.get_ref().and_then(|below| below.downcast_ref::<object_store::Error>());
            below.map_or_else(|| Error::Storage { doing, why: e.to_string() }, |below| failed(doing, below))
        })
    }
}

impl Drop for BucketWriter {
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            task::beside("bucket-abort", async move {
                if let Err(error) = writer.abort().await {
                    tracing::warn!(%error, "failed to give up what was uploaded of a file");
                }
            });
        }
    }
}

/// A file that is being read.
pub struct BucketReader {
    bytes: u64,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl BucketReader {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece; none at its end.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.pieces.try_next().await.map_err(|e| failed("read a file of the bucket", &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(bucket: &Bucket, path: &str, pieces: &[&[u8]]) {
        let mut writer = bucket.create(path).unwrap();
        for piece in pieces {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        writer.finish().await.unwrap();
    }

    async fn read(bucket: &Bucket, path: &str) -> Option<Vec<u8>> {
        let mut reader = bucket.read(path).await.unwrap()?;
        let mut all = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        assert_eq!(reader.bytes(), all.len() as u64);
        Some(all)
    }

    #[tokio::test]
    async fn files_longer_than_a_part_and_empty_ones_are_read_as_they_were_written() {
        let bucket = Bucket::in_memory();
        let long: Vec<u8> = (0..3 * PART + 5).map(|n| (n % 251) as u8).collect();
        put(&bucket, "a/long", &long.chunks(1 << 20).collect::<Vec<_>>()).await;
        assert!(read(&bucket, "a/long").await.unwrap() == long);
        put(&bucket, "a/empty", &[]).await;
        assert_eq!(read(&bucket, "a/empty").await.unwrap(), b"");
        assert_eq!(bucket.bytes("a/long").await.unwrap(), Some(long.len() as u64));
        assert_eq!(bucket.bytes("a").await.unwrap(), None);
        assert!(bucket.is_folder("a").await.unwrap() && !bucket.is_folder("a/empty").await.unwrap());
    }

    #[tokio::test]
    async fn a_file_that_is_dropped_is_not_there_and_one_that_was_stays() {
        let bucket = Bucket::in_memory();
        put(&bucket, "x", &[b"before"]).await;
        let mut dropped = bucket.create("x").unwrap();
        dropped.write(vec![7; 2 * PART].into()).await.unwrap();
        drop(dropped);
        assert_eq!(read(&bucket, "x").await.unwrap(), b"before");
    }

    #[tokio::test]
    async fn names_are_as_they_were_given_and_what_is_beside_a_folder_stays() {
        let bucket = Bucket::in_memory();
        for path in ["m/a b~%41ü", "m/deep/er/x", "m2/y"] {
            put(&bucket, path, &[b"1"]).await;
        }
        let listed = bucket.list("m").await.unwrap();
        let of = |name: &str, bytes| Listed { name: name.to_owned(), bytes };
        assert_eq!(listed, [of("a b~%41ü", Some(1)), of("deep", None)]);
        assert!(bucket.remove("m").await.unwrap());
        assert!(!bucket.remove("m").await.unwrap());
        assert!(bucket.list("m").await.unwrap().is_empty());
        assert_eq!(read(&bucket, "m2/y").await.unwrap(), b"1");
        assert!(matches!(bucket.create("m/../x"), Err(Error::Invalid { .. })));
    }

    #[test]
    fn what_names_no_bucket_is_refused() {
        for root in ["/a/folder", "file:///x", "s3:///x", "gs://b/x", "s3://k:s3cret@b/x", "s3://b/x?y"] {
            let said = Bucket::open(root, &BTreeMap::new()).unwrap_err();
            assert!(matches!(said, Error::Invalid { .. }) && !said.to_string().contains("s3cret"), "{root}");
        }
        let http = [("AWS_ENDPOINT_URL".to_owned(), "http://10.0.0.1:9000".to_owned())];
        let said = Bucket::open("s3://b/x", &http.into()).unwrap_err().to_string();
        assert!(said.contains("AWS_ALLOW_HTTP=true"), "{said}");
    }
}
