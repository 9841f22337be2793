//! Numbers that are read as they were written, to the last bit, in every format.
//!
//! An edge of a bin is often a value of the column. Were it read one unit in the last place lower, as fast readers of
//! JSON may, all rows with that value would change their bin, and that would be drift. So numbers go as text, which
//! [`str::parse`] reads exactly, and what is not finite goes along.

use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serializer};

fn parse<E: serde::de::Error>(text: &str) -> Result<f64, E> {
    text.parse().map_err(|_| E::custom("a number was expected"))
}

/// One number.
pub(crate) mod one {
    use super::{Deserialize, Deserializer, Serializer, parse};

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        parse(&String::deserialize(from)?)
    }
}

/// One number, or none.
pub(crate) mod maybe {
    use super::{Deserialize, Deserializer, Serializer, parse};

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.serialize_some(&value.to_string()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Option::<String>::deserialize(from)?.map(|text| parse(&text)).transpose()
    }
}

/// Many numbers, in one text with spaces between.
pub(crate) mod many {
    use super::{Deserialize, Deserializer, SerializeSeq, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        // Parts, so that no text is much longer than a line of a log may be.
        let mut parts = to.serialize_seq(Some(values.len().div_ceil(64)))?;
        for part in values.chunks(64) {
            let text: Vec<String> = part.iter().map(f64::to_string).collect();
            parts.serialize_element(&text.join(" "))?;
        }
        parts.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let parts = Vec::<String>::deserialize(from)?;
        let each = parts.iter().flat_map(|part| part.split(' ').filter(|text| !text.is_empty()));
        each.map(|text| text.parse().map_err(|_| D::Error::custom("numbers were expected"))).collect()
    }
}
