//! Which version somebody means.

use std::fmt;
use std::str::FromStr;

use contract::UnixMillis;
use deltalake::DeltaTable;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::Error;
use crate::dataset::facts::{Facts, entry};
use crate::dataset::{Dataset, number};
use crate::source::instant;

/// Entries of the log that are read at once.
const AHEAD: usize = 8;

/// Which version: `@7`, `@2026-11-22`, `@2026-11-22T04:00:00Z`, `@9f86d081`, `@a-tag`, or the newest when nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum At {
    /// The newest.
    #[default]
    Newest,
    /// That number.
    Version(u64),
    /// What was newest at that time.
    Time(UnixMillis),
    /// What the tag names.
    Tag(String),
    /// The newest whose content name begins so.
    Name(String),
}

impl At {
    /// Whether a text may be a tag: it begins with a letter and cannot be taken for a name.
    pub(crate) fn is_tag(text: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        text.len() <= 64
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && text.bytes().all(plain)
            && !is_name(text)
    }
}

fn is_name(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for At {
    type Err = Error;

    fn from_str(text: &str) -> Result<At, Error> {
        let plain = text.strip_prefix('@').unwrap_or(text);
        if plain.is_empty() || plain == "newest" {
            return Ok(At::Newest);
        }
        // A number has fewer than eight digits, a name at least as many.
        if plain.len() < 8
            && let Ok(version) = plain.parse()
        {
            return Ok(At::Version(version));
        }
        if let Some(millis) = instant(plain) {
            return Ok(At::Time(UnixMillis(millis)));
        }
        if is_name(plain) {
            return Ok(At::Name(plain.to_owned()));
        }
        if At::is_tag(plain) {
            return Ok(At::Tag(plain.to_owned()));
        }
        let why = "say a number, a time as 2026-11-22T04:00:00Z, a tag, or eight or more digits of a name";
        Err(Error::invalid(format!("the version `{text}`"), why))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Newest => f.write_str("the newest version"),
            At::Version(version) => write!(f, "version {version}"),
            At::Time(at) => write!(f, "a version at {} ms since the epoch", at.0),
            At::Tag(tag) => write!(f, "the tag `{tag}`"),
            At::Name(name) => write!(f, "a version named `{name}…`"),
        }
    }
}

impl Dataset {
    /// The newest version whose content name begins so, for each of these beginnings. The log is read back from the newest version
    /// until all are found: of what stages hand on, that is the first entry or one of few.
    pub(crate) async fn named(
        &self,
        table: &DeltaTable,
        beginnings: &[String],
    ) -> Result<Vec<Option<u64>>, Error> {
        let mut found = vec![None; beginnings.len()];
        let log = table.log_store();
        let (log, dataset) = (&*log, &*self.name);
        let read = |version| async move { entry(log, dataset, version).await.map(|entry| (version, entry)) };
        let mut entries = stream::iter((0..=number(table)).rev()).map(read).buffered(AHEAD);
        // Entries that change no rows are of the name below them: the newest of them is the one that is meant.
        let mut above = None;
        while found.iter().any(Option::is_none)
            && let Some((version, entry)) = entries.try_next().await?
        {
            let Some(entry) = entry else { continue };
            let newest = *above.get_or_insert(version);
            if entry.facts.is_none() && !entry.changes {
                continue;
            }
            above = None;
            let Some(name) = entry.facts.as_ref().and_then(Facts::name) else { continue };
            for (found, beginning) in found.iter_mut().zip(beginnings) {
                if name.as_str().starts_with(beginning.as_str()) {
                    found.get_or_insert(newest);
                }
            }
        }
        Ok(found)
    }

    /// What was newest at a time, or when the first version was made that is known of. Times never go back from version to version
    /// (`commit` sees to it), so the log is halved, not read: some twenty entries of a million.
    pub(super) async fn at_time(
        &self,
        table: &DeltaTable,
        time: UnixMillis,
    ) -> Result<Result<u64, Option<UnixMillis>>, Error> {
        let log = table.log_store();
        let (log, dataset) = (&*log, &*self.name);
        let made = |version| async move { Ok::<_, Error>(entry(log, dataset, version).await?.map(|e| e.at)) };
        // The first version that is later is among these, or there is none.
        let (mut low, mut high) = (0, number(table) + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match made(middle).await? {
                Some(Some(at)) if at > time.0 => high = middle,
                _ => low = middle + 1,
            }
        }
        let mut version = low;
        while let Some(before) = version.checked_sub(1) {
            match made(before).await? {
                Some(Some(_)) => return Ok(Ok(before)),
                // Another writer did not say when.
                Some(None) => version = before,
                // What is older is not kept.
                None => break,
            }
        }
        Ok(Err(made(low).await?.flatten().map(UnixMillis)))
    }

    /// The number of the version somebody means.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`].
    pub async fn resolve(&self, at: &At) -> Result<u64, Error> {
        let table = self.existing().await?;
        let newest = number(&table);
        let none =
            |hint: String| Error::NoVersion { dataset: self.name.to_string(), at: at.to_string(), hint };
        match at {
            At::Newest => Ok(newest),
            At::Version(version) if *version <= newest => Ok(*version),
            At::Version(_) => Err(none(format!("the newest is {newest}"))),
            At::Tag(tag) => match self.tag_named(tag).await? {
                Some(tag) => Ok(tag.version),
                None => {
                    let tags = self.tags().await?;
                    let names: Vec<_> = tags.iter().map(|t| t.tag.as_str()).collect();
                    let none_yet = "there is no tag yet".to_owned();
                    Err(none(if names.is_empty() {
                        none_yet
                    } else {
                        format!("there are {}", names.join(", "))
                    }))
                }
            },
            At::Time(time) => self.at_time(&table, *time).await?.map_err(|first| match first {
                Some(first) => none(format!("the first is of {} ms since the epoch", first.0)),
                None => none("nobody knows when its versions were made".to_owned()),
            }),
            At::Name(name) => {
                let found =
                    self.named(&table, std::slice::from_ref(name)).await?.into_iter().flatten().next();
                found.ok_or_else(|| none("`forebay data log` shows the names there are".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_name_a_version_is_told_apart() {
        let at = |text: &str| text.parse::<At>().unwrap();
        assert_eq!(at(""), At::Newest);
        assert_eq!(at("@7"), At::Version(7));
        assert_eq!(at("1970-01-02"), At::Time(UnixMillis(86_400_000)));
        assert_eq!(at("@1970-01-01T00:00:01Z"), At::Time(UnixMillis(1000)));
        assert_eq!(at("deadbeef"), At::Name("deadbeef".into()));
        assert_eq!(at("12345678"), At::Name("12345678".into()));
        assert_eq!(at("@release-1"), At::Tag("release-1".into()));
        assert!("a b".parse::<At>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,70}") {
            let _ = text.parse::<At>();
        }
    }
}
