//! What Forebay and the worker that grows trees say to each other, over the worker's stdin and stdout.
//!
//! A frame is a kind (one byte), a length (four bytes, little-endian) and so many bytes, at most [`LONGEST`]. Columns cross in
//! pieces, as doubles; everything that is small crosses as JSON. The arrows:
//!
//! `Open` → `Column`… → (`Fit` → `Rows`… → `Go` → `Round`… → `Model`… → `Fitted`)…, with `Stop` at any time after `Go` and
//! `Failed` in the place of any answer. The end of stdin ends the worker.
//!
//! Both sides use this file; neither trusts the other: what is too long, unknown or out of place is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The longest frame, in bytes.
pub const LONGEST: usize = 8 << 20;

/// Bytes of a frame's head.
pub const HEAD: usize = 5;

/// Which column a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A feature, by its number.
    Feature(u32),
    /// What is to be predicted: a value, or the number of a class.
    Label,
    /// How much rows count.
    Weight,
}

/// Which rows a piece names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Those that are learnt from.
    Train,
    /// Those that early stopping looks at.
    Valid,
}

/// What the table will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// How many rows.
    pub rows: u32,
    /// For each feature, whether it is a category.
    pub categories: Vec<bool>,
    /// Whether rows have weights.
    pub weights: bool,
}

/// One training on rows of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Parameters of LightGBM's.
    pub params: BTreeMap<String, String>,
    /// The most trees, or rounds of a tree for each class.
    pub rounds: u32,
    /// Stop when the metric has not become better for so many rounds.
    pub patience: Option<u32>,
    /// Whether more of the metric is better.
    pub rising: bool,
}

/// The metric after a round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// How many rounds are done.
    pub round: u32,
    /// The metric on the validation rows, when there are some.
    pub value: Option<f64>,
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// The rounds that the model has: the best ones, when something looked.
    pub rounds: u32,
    /// The metric of these.
    pub value: Option<f64>,
    /// Whether it was told to stop.
    pub stopped: bool,
}

/// What went wrong over there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// In LightGBM's words, or the worker's.
    pub what: String,
    /// Whether it was for want of memory.
    pub memory: bool,
}

/// A frame to the worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// A table will come.
    Open(Open),
    /// The next values of a column.
    Column(Place, Vec<f64>),
    /// A training will come.
    Fit(Fit),
    /// The next rows of a part.
    Rows(Part, Vec<u32>),
    /// All is said: train.
    Go,
    /// Stop after the round that is under way.
    Stop,
}

/// A frame from the worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// A round is over.
    Round(Round),
    /// The next piece of the model's text.
    Model(Vec<u8>),
    /// The training is over.
    Fitted(Fitted),
    /// It came to nothing.
    Failed(Failed),
}

/// A frame that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker's protocol was broken: {0}")]
pub struct Broken(pub &'static str);

const LABEL: u32 = u32::MAX;
const WEIGHT: u32 = u32::MAX - 1;

/// The kind and the length that a head says.
///
/// # Errors
/// It is longer than a frame may be.
pub fn head(bytes: [u8; HEAD]) -> Result<(u8, usize), Broken> {
    let [kind, a, b, c, d] = bytes;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| Broken("a frame too long"))?;
    if length > LONGEST { Err(Broken("a frame too long")) } else { Ok((kind, length)) }
}

fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(HEAD + length);
    out.push(kind);
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn json(kind: u8, value: &impl Serialize) -> Vec<u8> {
    // These are structs of numbers and texts: they always can be written.
    frame(kind, &[&serde_json::to_vec(value).unwrap_or_default()])
}

fn parsed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Broken> {
    serde_json::from_slice(bytes).map_err(|_| Broken("a frame that is not what its kind says"))
}

fn numbers<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Result<Vec<T>, Broken> {
    let chunks = bytes.chunks_exact(N);
    if !chunks.remainder().is_empty() {
        return Err(Broken("a piece of a number"));
    }
    chunks.map(|chunk| chunk.try_into().map(read).map_err(|_| Broken("a piece of a number"))).collect()
}

impl Ask {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Ask::Open(open) => json(1, open),
            Ask::Column(place, values) => {
                let place = match place {
                    Place::Feature(i) => *i,
                    Place::Label => LABEL,
                    Place::Weight => WEIGHT,
                };
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                frame(2, &[&place.to_le_bytes(), &bytes])
            }
            Ask::Fit(fit) => json(3, fit),
            Ask::Rows(part, rows) => {
                let bytes: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
                frame(4, &[&[u8::from(*part == Part::Valid)], &bytes])
            }
            Ask::Go => frame(5, &[]),
            Ask::Stop => frame(6, &[]),
        }
    }

    /// Reads a frame's content.
    ///
    /// # Errors
    /// It is not what its kind says.
    pub fn decode(kind: u8, bytes: &[u8]) -> Result<Ask, Broken> {
        match kind {
            1 => Ok(Ask::Open(parsed(bytes)?)),
            2 => {
                let (place, values) =
                    bytes.split_first_chunk::<4>().ok_or(Broken("a column without a number"))?;
                let place = match u32::from_le_bytes(*place) {
                    LABEL => Place::Label,
                    WEIGHT => Place::Weight,
                    i => Place::Feature(i),
                };
                Ok(Ask::Column(place, numbers(values, f64::from_le_bytes)?))
            }
            3 => Ok(Ask::Fit(parsed(bytes)?)),
            4 => match bytes.split_first() {
                Some((0, rows)) => Ok(Ask::Rows(Part::Train, numbers(rows, u32::from_le_bytes)?)),
                Some((1, rows)) => Ok(Ask::Rows(Part::Valid, numbers(rows, u32::from_le_bytes)?)),
                _ => Err(Broken("rows of no part")),
            },
            5 if bytes.is_empty() => Ok(Ask::Go),
            6 if bytes.is_empty() => Ok(Ask::Stop),
            _ => Err(Broken("an unknown frame")),
        }
    }
}

impl Say {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Say::Round(round) => json(129, round),
            Say::Model(text) => frame(130, &[text]),
            Say::Fitted(fitted) => json(131, fitted),
            Say::Failed(failed) => json(132, failed),
        }
    }

    /// Reads a frame's content.
    ///
    /// # Errors
    /// It is not what its kind says.
    pub fn decode(kind: u8, bytes: &[u8]) -> Result<Say, Broken> {
        match kind {
            129 => Ok(Say::Round(parsed(bytes)?)),
            130 => Ok(Say::Model(bytes.to_vec())),
            131 => Ok(Say::Fitted(parsed(bytes)?)),
            132 => Ok(Say::Failed(parsed(bytes)?)),
            _ => Err(Broken("an unknown frame")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask() -> impl Strategy<Value = Ask> {
        let place =
            prop_oneof![(0..u32::MAX - 1).prop_map(Place::Feature), Just(Place::Label), Just(Place::Weight)];
        let part = prop_oneof![Just(Part::Train), Just(Part::Valid)];
        prop_oneof![
            (any::<u32>(), prop::collection::vec(any::<bool>(), 0..5), any::<bool>())
                .prop_map(|(rows, categories, weights)| Ask::Open(Open { rows, categories, weights })),
            (place, prop::collection::vec(-1e9..1e9_f64, 0..20)).prop_map(|(p, v)| Ask::Column(p, v)),
            (part, prop::collection::vec(any::<u32>(), 0..20)).prop_map(|(p, r)| Ask::Rows(p, r)),
            (
                prop::collection::btree_map("[a-z]{1,5}", "[ -~]{0,5}", 0..3),
                any::<u32>(),
                any::<Option<u32>>()
            )
                .prop_map(|(params, rounds, patience)| Ask::Fit(Fit {
                    params,
                    rounds,
                    patience,
                    rising: true
                })),
            Just(Ask::Go),
            Just(Ask::Stop),
        ]
    }

    proptest! {
        #[test]
        fn what_is_asked_is_heard(ask in ask()) {
            let bytes = ask.encode();
            let (kind, length) = head(bytes[..HEAD].try_into().unwrap()).unwrap();
            prop_assert_eq!(length, bytes.len() - HEAD);
            prop_assert_eq!(Ask::decode(kind, &bytes[HEAD..]), Ok(ask));
        }

        #[test]
        fn any_frame_is_heard_or_refused_without_a_panic(kind in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (Ask::decode(kind, &bytes), Say::decode(kind, &bytes));
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        let all = [
            Say::Round(Round { round: 3, value: Some(0.1 + 0.2) }),
            Say::Model(b"tree\n".to_vec()),
            Say::Fitted(Fitted { rounds: 3, value: None, stopped: true }),
            Say::Failed(Failed { what: "no".to_owned(), memory: true }),
        ];
        for say in all {
            let bytes = say.encode();
            let (kind, _) = head(bytes[..HEAD].try_into().unwrap()).unwrap();
            assert_eq!(Say::decode(kind, &bytes[HEAD..]), Ok(say));
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused() {
        assert!(head([2, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
