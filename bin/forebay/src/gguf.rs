//! The head of a GGUF file: what the model is, without reading its weights. A file that is something else is refused;
//! no bytes make it panic or take more memory than a bound.

use std::io::Read;

use serde::Serialize;

/// The most bytes that are read: the heads of models with large vocabularies are about 20 MB.
const HEAD_LIMIT: u64 = 512 << 20;
/// The longest name or text that is kept.
const TEXT_LIMIT: u64 = 1 << 20;
/// More entries or tensors than any model has.
const COUNT_LIMIT: u64 = 1 << 20;

/// What a file says of its model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Gguf {
    /// `llama`, `qwen2`, …
    pub architecture: Option<String>,
    /// Its name for people.
    pub name: Option<String>,
    /// How many weights.
    pub parameters: u64,
    /// `Q4_K_M`, `F16`, …
    pub quantization: Option<String>,
    /// The tokens it was made for.
    pub context_length: Option<u64>,
}

enum Value {
    Number(u64),
    Text(String),
    Other,
}

struct Head<R>(std::io::Take<R>);

/// Reads the head.
///
/// # Errors
/// Why it is none, as a fragment: `it does not begin with GGUF`.
pub fn read(reader: impl Read) -> Result<Gguf, String> {
    let mut head = Head(reader.take(HEAD_LIMIT));
    if head.bytes::<4>().map_err(|_| "it is shorter than a head".to_owned())? != *b"GGUF" {
        return Err("it does not begin with GGUF".to_owned());
    }
    let version = head.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("its version is {version}, and 2 and 3 are known"));
    }
    let (tensors, entries) = (head.count()?, head.count()?);
    let mut found = Gguf::default();
    let mut lengths: Vec<(String, u64)> = Vec::new();
    for _ in 0..entries {
        let key = head.text()?.ok_or("a name in it is too long")?;
        let kind = head.u32()?;
        match (key.as_str(), head.value(kind, 0)?) {
            ("general.architecture", Value::Text(t)) => found.architecture = Some(t),
            ("general.name", Value::Text(t)) => found.name = Some(t),
            ("general.file_type", Value::Number(n)) => found.quantization = Some(quantization(n)),
            (_, Value::Number(n)) if key.ends_with(".context_length") => lengths.push((key, n)),
            _ => {}
        }
    }
    for _ in 0..tensors {
        head.text()?;
        let dimensions = head.u32()?;
        if dimensions > 8 {
            return Err(format!("a tensor of it has {dimensions} dimensions"));
        }
        let mut weights = 1_u64;
        for _ in 0..dimensions {
            weights = weights.saturating_mul(head.u64()?);
        }
        // Its kind and its place.
        head.u32()?;
        head.u64()?;
        found.parameters = found.parameters.saturating_add(weights);
    }
    let own = found.architecture.as_ref().map(|a| format!("{a}.context_length"));
    found.context_length = lengths.iter().find(|(k, _)| Some(k) == own.as_ref()).map(|(_, n)| *n);
    Ok(found)
}

impl<R: Read> Head<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).map_err(|_| "it ends within its head".to_owned())?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Result<u64, String> {
        let n = self.u64()?;
        if n > COUNT_LIMIT { Err(format!("it claims {n} entries")) } else { Ok(n) }
    }

    fn skip(&mut self, n: u64) -> Result<(), String> {
        let skipped = std::io::copy(&mut self.0.by_ref().take(n), &mut std::io::sink());
        if skipped.ok() == Some(n) { Ok(()) } else { Err("it ends within its head".to_owned()) }
    }

    /// A text; `None` when it is too long to keep.
    fn text(&mut self) -> Result<Option<String>, String> {
        let length = self.u64()?;
        if length > TEXT_LIMIT {
            return self.skip(length).map(|()| None);
        }
        let mut bytes = Vec::new();
        let read = self.0.by_ref().take(length).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if u64::try_from(read).ok() != Some(length) {
            return Err("it ends within its head".to_owned());
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn value(&mut self, kind: u32, depth: u8) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Number(u64::from(self.bytes::<1>()?[0])),
            1 | 7 => self.skip(1).map(|()| Value::Other)?,
            2 => Value::Number(u64::from(u16::from_le_bytes(self.bytes()?))),
            3 => self.skip(2).map(|()| Value::Other)?,
            4 => Value::Number(u64::from(self.u32()?)),
            5 | 6 => self.skip(4).map(|()| Value::Other)?,
            8 => self.text()?.map_or(Value::Other, Value::Text),
            9 if depth < 4 => {
                let (of, length) = (self.u32()?, self.u64()?);
                match of {
                    0 | 1 | 7 => self.skip(length)?,
                    2 | 3 => self.skip(length.saturating_mul(2))?,
                    4..=6 => self.skip(length.saturating_mul(4))?,
                    10..=12 => self.skip(length.saturating_mul(8))?,
                    8 => {
                        for _ in 0..length {
                            let n = self.u64()?;
                            self.skip(n)?;
                        }
                    }
                    _ => {
                        for _ in 0..length {
                            self.value(of, depth + 1)?;
                        }
                    }
                }
                Value::Other
            }
            10 => Value::Number(self.u64()?),
            11 | 12 => self.skip(8).map(|()| Value::Other)?,
            other => return Err(format!("a value of it is of the unknown kind {other}")),
        })
    }
}

/// The name of llama.cpp's file type.
fn quantization(n: u64) -> String {
    const NAMES: [&str; 33] = [
        "F32",
        "F16",
        "Q4_0",
        "Q4_1",
        "Q4_1_SOME_F16",
        "Q4_2",
        "Q4_3",
        "Q8_0",
        "Q5_0",
        "Q5_1",
        "Q2_K",
        "Q3_K_S",
        "Q3_K_M",
        "Q3_K_L",
        "Q4_K_S",
        "Q4_K_M",
        "Q5_K_S",
        "Q5_K_M",
        "Q6_K",
        "IQ2_XXS",
        "IQ2_XS",
        "Q2_K_S",
        "IQ3_XS",
        "IQ3_XXS",
        "IQ1_S",
        "IQ4_NL",
        "IQ3_S",
        "IQ3_M",
        "IQ2_S",
        "IQ2_M",
        "IQ4_XS",
        "IQ1_M",
        "BF16",
    ];
    let name = usize::try_from(n).ok().and_then(|n| NAMES.get(n));
    name.map_or_else(|| format!("type {n}"), |n| (*n).to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(out: &mut Vec<u8>, s: &str) {
        out.extend((s.len() as u64).to_le_bytes());
        out.extend(s.as_bytes());
    }

    /// A small file: one tensor of 6 weights.
    pub(crate) fn small() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend(1_u64.to_le_bytes());
        out.extend(5_u64.to_le_bytes());
        for (key, value) in [("general.architecture", "qwen2"), ("general.name", "Tiny")] {
            text(&mut out, key);
            out.extend(8_u32.to_le_bytes());
            text(&mut out, value);
        }
        text(&mut out, "tokenizer.ggml.tokens");
        out.extend([9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat());
        out.extend(2_u64.to_le_bytes());
        text(&mut out, "a");
        text(&mut out, "b");
        for (key, value) in [("general.file_type", 15_u32), ("qwen2.context_length", 32_768)] {
            text(&mut out, key);
            out.extend([4_u32.to_le_bytes(), value.to_le_bytes()].concat());
        }
        text(&mut out, "blk.0.weight");
        out.extend(2_u32.to_le_bytes());
        out.extend([2_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat());
        out.extend(12_u32.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out
    }

    #[test]
    fn the_head_says_what_the_model_is() {
        let expected = Gguf {
            architecture: Some("qwen2".into()),
            name: Some("Tiny".into()),
            parameters: 6,
            quantization: Some("Q4_K_M".into()),
            context_length: Some(32_768),
        };
        assert_eq!(read(&small()[..]), Ok(expected));
    }

    #[test]
    fn a_file_that_is_something_else_is_refused_wherever_it_ends() {
        assert_eq!(read(&b"<!DOCTYPE html>"[..]), Err("it does not begin with GGUF".into()));
        let whole = small();
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes[..]);
            let _ = read(&[b"GGUF\x03\0\0\0".to_vec(), bytes].concat()[..]);
        }

        #[test]
        fn no_damage_panics(at in 0_usize..200, to in any::<u8>()) {
            let mut bytes = small();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = read(&bytes[..]);
        }
    }
}
