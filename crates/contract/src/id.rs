//! Names and ids, each a type of its own so that a tenant can never be passed where a key is meant.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::UnixMillis;

/// A cheap-to-clone string that names one sort of thing. The tag `T` keeps sorts apart.
pub struct Name<T>(Arc<str>, PhantomData<fn() -> T>);

/// Tags of [`Name`]: they have no values.
mod tag {
    #[derive(Debug)]
    pub enum Tenant {}
    #[derive(Debug)]
    pub enum Key {}
    #[derive(Debug)]
    pub enum User {}
    #[derive(Debug)]
    pub enum Model {}
    #[derive(Debug)]
    pub enum Endpoint {}
    #[derive(Debug)]
    pub enum Pipeline {}
    #[derive(Debug)]
    pub enum Stage {}
}

/// Whom a request belongs to: the unit of fairness and of billing.
pub type TenantId = Name<tag::Tenant>;
/// The public id of an API key (never the key itself).
pub type KeyId = Name<tag::Key>;
/// The end user that a caller named, if any.
pub type UserId = Name<tag::User>;
/// A model as the configuration names it.
pub type ModelName = Name<tag::Model>;
/// One upstream of a model.
pub type EndpointName = Name<tag::Endpoint>;
/// A pipeline as the configuration names it.
pub type PipelineName = Name<tag::Pipeline>;
/// A stage within its pipeline.
pub type StageName = Name<tag::Stage>;

impl TenantId {
    /// The tenant of whoever is at the machine itself, of callers without a key, and of runs that no caller caused.
    pub const DEFAULT: &'static str = "default";

    /// [`TenantId::DEFAULT`].
    pub fn of_the_project() -> TenantId {
        TenantId::from(TenantId::DEFAULT)
    }
}

impl<T> Name<T> {
    /// A name from text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Name(text.into(), PhantomData)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared and not copied.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl<T> Clone for Name<T> {
    fn clone(&self) -> Self {
        Name(self.0.clone(), PhantomData)
    }
}
impl<T> PartialEq for Name<T> {
    fn eq(&self, o: &Self) -> bool {
        self.0 == o.0
    }
}
impl<T> Eq for Name<T> {}
impl<T> PartialOrd for Name<T> {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl<T> Ord for Name<T> {
    fn cmp(&self, o: &Self) -> std::cmp::Ordering {
        self.0.cmp(&o.0)
    }
}
impl<T> Hash for Name<T> {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.0.hash(h);
    }
}
impl<T> Borrow<str> for Name<T> {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl<T> From<&str> for Name<T> {
    fn from(s: &str) -> Self {
        Name::new(s)
    }
}
impl<T> From<String> for Name<T> {
    fn from(s: String) -> Self {
        Name::new(s)
    }
}
impl<T> fmt::Display for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl<T> fmt::Debug for Name<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
impl<T> Serialize for Name<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de, T> Deserialize<'de> for Name<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text(|s: &str| Ok(Name::new(s))))
    }
}

/// Reads text where it lies, without a copy of its own.
struct Text<F>(F);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// A prefix and 32 hexadecimal digits. Every request has its id written several times.
fn prefixed<'a>(prefix: [u8; 4], id: &Uuid, out: &'a mut [u8; 36]) -> &'a str {
    let (head, digits) = out.split_at_mut(4);
    head.copy_from_slice(&prefix);
    id.simple().encode_lower(digits);
    std::str::from_utf8(out).unwrap_or_default()
}

/// The id of one request or run: a UUIDv7, so that ids sort by time. Printed as `req_…` without dashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// From its parts: the wall clock and 74 random bits (the upper ones of `random` are ignored).
    pub fn from_parts(wall: crate::UnixMillis, random: u128) -> Self {
        let millis = u64::try_from(wall.0).unwrap_or(0);
        let bytes = random.to_be_bytes();
        let mut tail = [0u8; 10];
        tail.copy_from_slice(bytes.last_chunk::<10>().unwrap_or(&[0; 10]));
        RequestId(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// The 16 bytes, in an order that sorts by time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl RequestId {
    /// The id of the `n`th attempt (from 1) of the work whose first attempt has this one: each attempt has a ledger
    /// record of its own, and the same attempt always the same.
    #[must_use]
    pub fn attempt(self, n: u32) -> RequestId {
        // The low bits of a version 7 are random: the version and the time stay what they are.
        RequestId(Uuid::from_u128(self.0.as_u128() ^ u128::from(n.saturating_sub(1))))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(prefixed(*b"req_", &self.0, &mut [0; 36]))
    }
}
impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::str::FromStr for RequestId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bare = s.strip_prefix("req_").unwrap_or(s);
        Uuid::try_parse(bare)
            .map(RequestId)
            .map_err(|_| format!("`{s}` is not a request id such as req_0190…"))
    }
}
impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(prefixed(*b"req_", &self.0, &mut [0; 36]))
    }
}
impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text(str::parse))
    }
}

/// The id of one durable run, a job among them: a UUIDv7, so that ids sort by time. Printed as `run_…` without dashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// From a request's id: the run that the request started.
    pub fn of(request: RequestId) -> Self {
        RunId(request.0)
    }

    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        RunId(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes, in an order that sorts by time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// When it was made, to the millisecond: an id of version 7 begins with that. Nothing when it is of another version.
    pub fn made_at(self) -> Option<UnixMillis> {
        let timed = self.0.get_version_num() == 7;
        let ms = self.0.as_bytes().iter().take(6).fold(0_i64, |ms, b| (ms << 8) | i64::from(*b));
        timed.then_some(UnixMillis(ms))
    }

    /// The id under which the first attempt of a run of one stage is in the ledger; [`RequestId::attempt`] gives the others.
    pub fn request(self) -> RequestId {
        RequestId(self.0)
    }

    /// The id without its prefix: 32 hexadecimal digits, of which the ids of what belongs to the run are made.
    pub fn serial(self) -> String {
        self.0.simple().to_string()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(prefixed(*b"run_", &self.0, &mut [0; 36]))
    }
}
impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::str::FromStr for RunId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bare = s.strip_prefix("run_").unwrap_or(s);
        Uuid::try_parse(bare).map(RunId).map_err(|_| format!("`{s}` is not a run id such as run_0190…"))
    }
}
impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(prefixed(*b"run_", &self.0, &mut [0; 36]))
    }
}
impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_str(Text(str::parse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMillis;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attempts_of_a_run_have_ids_of_their_own(at in 0i64..1 << 47, r in any::<u128>(), n in 1u32..1000, m in 1u32..1000) {
            let run = RunId::of(RequestId::from_parts(UnixMillis(at), r));
            prop_assert_eq!(run.request().attempt(1), run.request());
            prop_assert_eq!(run.request().attempt(n) == run.request().attempt(m), n == m);
            prop_assert_eq!(run.to_string().parse::<RunId>(), Ok(run));
        }

        #[test]
        fn request_ids_sort_by_time_and_read_back(a in 0i64..1 << 47, b in 0i64..1 << 47, r in any::<u128>()) {
            let (x, y) = (RequestId::from_parts(UnixMillis(a), r), RequestId::from_parts(UnixMillis(b), !r));
            if a != b {
                prop_assert_eq!(x < y, a < b);
            }
            prop_assert_eq!(x.to_string().parse::<RequestId>(), Ok(x));
        }
    }
}
