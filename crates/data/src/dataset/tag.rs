//! Names that people give to versions. A tag is a file of its own beside the log, so that tags set at once do not meet, and
//! `gc` keeps what they name.

use bytes::Bytes;
use contract::UnixMillis;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use crate::dataset::{At, Dataset};
use crate::{Error, store};

/// The folder of tags in a table's: every reader of Delta tables passes over what begins with an underscore.
const FOLDER: &str = "_forebay/tags";

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The tag.
    pub tag: String,
    /// The version it names.
    pub version: u64,
    /// When it was set.
    pub at: UnixMillis,
    /// Who set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

impl Dataset {
    /// Sets a tag, or moves it to another version.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that is no tag, [`Error::NoVersion`], [`Error::Storage`].
    pub async fn tag(&self, tag: &str, at: &At, who: Option<&str>) -> Result<Tag, Error> {
        if !At::is_tag(tag) {
            let why = "a tag begins with a letter, is up to 64 letters, digits, `_`, `-` and `.`, and is not a name's digits";
            return Err(Error::invalid(format!("the tag `{tag}`"), why));
        }
        let version = self.resolve(at).await?;
        let at = self.warehouse.inner.clock.wall();
        let tag = Tag { tag: tag.to_owned(), version, at, who: who.map(str::to_owned) };
        let text = serde_json::to_vec(&tag).map_err(|e| self.defect("write a tag of", &e.to_string()))?;
        let done = self.store().put(&path(&tag.tag), PutPayload::from(Bytes::from(text))).await;
        done.map_err(|e| store::failed("set the tag", &e))?;
        Ok(tag)
    }

    /// Removes a tag; false when there was none.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn untag(&self, tag: &str) -> Result<bool, Error> {
        if self.tag_named(tag).await?.is_none() {
            return Ok(false);
        }
        self.store().delete(&path(tag)).await.map_err(|e| store::failed("remove the tag", &e))?;
        Ok(true)
    }

    /// The tags, in order.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        let files = self.store();
        let folder = Path::from(FOLDER);
        let listed: Vec<_> =
            files.list(Some(&folder)).try_collect().await.map_err(|e| store::failed("list the tags", &e))?;
        let mut tags = Vec::new();
        for file in listed {
            let name = file.location.filename().and_then(|f| f.strip_suffix(".json")).unwrap_or_default();
            tags.extend(self.tag_named(name).await?);
        }
        tags.sort_by(|a, b| a.tag.cmp(&b.tag));
        Ok(tags)
    }

    /// The tag of that name.
    pub(crate) async fn tag_named(&self, tag: &str) -> Result<Option<Tag>, Error> {
        if !At::is_tag(tag) {
            return Ok(None);
        }
        let read = match self.store().get(&path(tag)).await {
            Ok(read) => read.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        let bytes = read.map_err(|e| store::failed("read the tag", &e))?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| self.defect("read a tag of", &format!("the file of `{tag}` is damaged: {e}")))
    }
}

fn path(tag: &str) -> Path {
    Path::from(format!("{FOLDER}/{tag}.json"))
}
