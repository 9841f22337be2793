//! A learner as bytes and back, bit for bit: what goes on from a checkpoint is what would have gone on without.
//!
//! JSON, in which every floating-point number is the integer of its bits, behind the BLAKE3 of it.

use serde::{Deserialize, Serialize};

use super::learner::{Kept, Moments};
use super::{Coefficients, Column, Online, OnlineConfig};
use crate::train::Error;

const VERSION: u32 = 1;
const SUM: usize = 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    config: OnlineConfig,
    intercept: [u64; 2],
    columns: Vec<SavedColumn>,
    rows: u64,
    sums: [u64; 2],
    recent: Vec<[u64; 2]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedColumn {
    name: String,
    /// Mean, variance and count; a number's.
    moments: Option<[u64; 3]>,
    /// The words; a dictionary's.
    words: Option<Vec<String>>,
    /// Buckets; a hash's.
    buckets: Option<u32>,
    /// Those that are not zero, by their places.
    kept: Vec<(u32, u64, u64)>,
}

/// Puts the parts of a learner into bytes.
pub(super) fn save(online: &Online) -> Vec<u8> {
    let saved = Saved {
        version: VERSION,
        config: online.config.clone(),
        intercept: [online.intercept.z.to_bits(), online.intercept.n.to_bits()],
        columns: online.columns.iter().map(save_column).collect(),
        rows: online.figures.rows,
        sums: online.figures.sums.map(f64::to_bits),
        recent: online.figures.recent.iter().map(|(a, b)| [a.to_bits(), b.to_bits()]).collect(),
    };
    // Structs of numbers and texts: they always can be written.
    let body = serde_json::to_vec(&saved).unwrap_or_default();
    [blake3::hash(&body).as_bytes().as_slice(), &body].concat()
}

fn save_column(column: &Column) -> SavedColumn {
    let all: &[Kept] = match &column.coefficients {
        Coefficients::Number(one, _) => std::slice::from_ref(one),
        Coefficients::Words { kept, .. } | Coefficients::Buckets { kept, .. } => kept,
    };
    let used = (0_u32..).zip(all).filter(|(_, kept)| **kept != Kept::default());
    SavedColumn {
        name: column.name.clone(),
        moments: match &column.coefficients {
            Coefficients::Number(_, m) => Some([m.count, m.mean, m.squares].map(f64::to_bits)),
            _ => None,
        },
        words: match &column.coefficients {
            Coefficients::Words { words, .. } => Some(words.keys().cloned().collect()),
            _ => None,
        },
        buckets: match &column.coefficients {
            Coefficients::Buckets { kept, .. } => u32::try_from(kept.len()).ok(),
            _ => None,
        },
        kept: used.map(|(at, kept)| (at, kept.z.to_bits(), kept.n.to_bits())).collect(),
    }
}

/// Makes a learner of bytes that [`save`] gave.
pub(super) fn load(bytes: &[u8]) -> Result<Online, Error> {
    let bad = |what: &str| Error::Checkpoint(what.to_owned());
    let (sum, body) = bytes.split_at_checked(SUM).ok_or_else(|| bad("it is too short"))?;
    if blake3::hash(body).as_bytes() != sum {
        return Err(bad("it is damaged: its sum does not fit; take the one before"));
    }
    let saved: Saved = serde_json::from_slice(body)
        .map_err(|e| Error::Checkpoint(format!("it is of another release ({e})")))?;
    if saved.version != VERSION {
        return Err(bad("it is of another release"));
    }
    let columns: Option<Vec<Column>> = saved.columns.into_iter().map(load_column).collect();
    let mut online = Online::empty(saved.config, columns.ok_or_else(|| bad("a column in it is none"))?);
    let [z, n] = saved.intercept.map(f64::from_bits);
    online.intercept = Kept { z, n };
    online.figures.rows = saved.rows;
    online.figures.sums = saved.sums.map(f64::from_bits);
    online.figures.recent = saved.recent.into_iter().map(|pair| pair.map(f64::from_bits).into()).collect();
    Ok(online)
}

fn load_column(saved: SavedColumn) -> Option<Column> {
    let count = match (&saved.moments, &saved.words, saved.buckets) {
        (Some(_), None, None) => 1,
        (None, Some(words), None) => words.len(),
        (None, None, Some(buckets)) if buckets <= 1 << 24 => buckets as usize,
        _ => return None,
    };
    let mut kept = vec![Kept::default(); count];
    for (at, z, n) in saved.kept {
        *kept.get_mut(at as usize)? = Kept { z: f64::from_bits(z), n: f64::from_bits(n) };
    }
    let coefficients = if let Some(moments) = saved.moments {
        let [count, mean, squares] = moments.map(f64::from_bits);
        Coefficients::Number(kept.first().copied()?, Moments { count, mean, squares })
    } else if let Some(words) = saved.words {
        Coefficients::Words { words: words.into_iter().zip(0_u32..).collect(), kept }
    } else {
        Coefficients::Buckets { seed: super::seed(&saved.name), kept }
    };
    Some(Column { name: saved.name, coefficients })
}
