//! Artifacts of runs and models in a bucket, which several servers may share.
//!
//! A bucket knows no folders, and would take a file under another: here neither can be, as in a folder. Of two that write at once a
//! file and one below it, both may come through; then the file is read, and the folder listed, each by its own name.

use bytes::Bytes;
use contract::{BoxFuture, TenantId};
use data::{Bucket, BucketReader, BucketWriter};
use models::Error;
use models::artifacts::{Artifact, ArtifactPath, ArtifactReader, ArtifactWriter, Artifacts, root_of};
use store::tracking::Refused;

type Result<T> = std::result::Result<T, Error>;

fn failed(error: data::Error) -> Error {
    match error {
        // Nothing that is tried again makes it another answer.
        error @ data::Error::Invalid { .. } => Refused::state(format!("failed to {error}")).into(),
        data::Error::Storage { doing, why } => Error::Io(std::io::Error::other(format!("{doing}: {why}"))),
        error => Error::Io(std::io::Error::other(error.to_string())),
    }
}

/// A prefix of a bucket, with one below it for each tenant.
#[derive(Debug)]
pub(crate) struct InBucket(Bucket);

impl InBucket {
    /// In this one.
    pub(crate) fn new(bucket: Bucket) -> Self {
        InBucket(bucket)
    }

    fn place(tenant: &TenantId, path: &ArtifactPath) -> Result<String> {
        // A folder on disk takes them; a key of an object does not.
        if path.as_str().chars().any(|c| c.is_ascii_control()) {
            return Err(Refused::invalid("Invalid path").into());
        }
        Ok(format!("{}/{}", root_of(tenant), path.as_str()))
    }

    async fn begin(&self, tenant: &TenantId, path: &ArtifactPath) -> Result<BucketWriter> {
        if path.is_root() {
            return Err(Refused::invalid("Invalid path").into());
        }
        let place = Self::place(tenant, path)?;
        let root = root_of(tenant).len();
        let above = place.char_indices().filter(|(at, c)| *c == '/' && *at > root);
        let above = above.filter_map(|(at, _)| place.get(..at)).map(|folder| self.0.bytes(folder));
        let (above, folder) =
            futures_util::future::join(futures_util::future::try_join_all(above), self.0.is_folder(&place))
                .await;
        if above.map_err(failed)?.iter().any(Option::is_some) {
            return Err(Refused::invalid("A part of the path is a file").into());
        }
        if folder.map_err(failed)? {
            return Err(Refused::invalid(format!("The path '{}' is a folder", path.as_str())).into());
        }
        self.0.create(&place).map_err(failed)
    }
}

struct Writer(BucketWriter);

impl ArtifactWriter for Writer {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.0.write(piece).await.map_err(failed) })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.0.finish().await.map_err(failed) })
    }
}

struct Reader(BucketReader);

impl ArtifactReader for Reader {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move { self.0.next().await.map_err(failed) })
    }
}

impl Artifacts for InBucket {
    fn create<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Box<dyn ArtifactWriter>>> {
        Box::pin(
            async move { Ok(Box::new(Writer(self.begin(tenant, path).await?)) as Box<dyn ArtifactWriter>) },
        )
    }

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Option<Box<dyn ArtifactReader>>>> {
        Box::pin(async move {
            let reader = self.0.read(&Self::place(tenant, path)?).await.map_err(failed)?;
            Ok(reader.map(|r| Box::new(Reader(r)) as Box<dyn ArtifactReader>))
        })
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Vec<Artifact>>> {
        Box::pin(async move {
            let listed = self.0.list(&Self::place(tenant, path)?).await.map_err(failed)?;
            Ok(listed.into_iter().map(|l| Artifact { name: l.name, bytes: l.bytes }).collect())
        })
    }

    fn remove<'a>(&'a self, tenant: &'a TenantId, path: &'a ArtifactPath) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if path.is_root() {
                return Err(Refused::invalid("Invalid path").into());
            }
            self.0.remove(&Self::place(tenant, path)?).await.map_err(failed)
        })
    }
}

#[cfg(test)]
#[path = "../../../crates/models/tests/it/keeps.rs"]
#[allow(unreachable_pub, reason = "it is shared with another crate's tests")]
mod keeps;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bucket_keeps_artifacts_as_a_folder_does() {
        let bucket = InBucket::new(Bucket::in_memory());
        keeps::keeps(&bucket).await;
        let odd = ArtifactPath::new("a\nb").unwrap();
        assert!(bucket.create(&TenantId::from("gold"), &odd).await.is_err(), "no key of an object has it");
    }
}
