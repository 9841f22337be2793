//! Values with their unit in the text: `300ms`, `32mb`, `200k`, `$0.02`. Read exactly, without floating point.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use contract::Money;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `300ms`, `90s`, `5m`, `1h`, `7d`; also `1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);
/// A size in bytes: `512b`, `64kb`, `32mb`, `1gb` (powers of 1000), `64kib`, `32mib`, `1gib` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);
/// How many: `1200`, `200k`, `1.5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u64);
/// Dollars, exact to a nanodollar: `0.02`, `$0.02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usd(pub Money);

/// The longest time in nanoseconds: three hundred million years, whose milliseconds have twenty digits.
const LONGEST: u128 = 10_u128.pow(25);
const TIMES: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const SIZES: &[(&str, u64)] = &[
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];
const COUNTS: &[(&str, u64)] = &[("", 1), ("k", 1_000), ("m", 1_000_000)];

/// A decimal number and its unit, in the smallest unit. `None` when it is none, or too large.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u128> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split)?;
    let unit = unit.to_ascii_lowercase();
    let factor = u128::from(units.iter().find(|(name, _)| *name == unit)?.1);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Twenty digits of the largest unit fit; whatever is shown of a `u64` is read back.
    if whole.is_empty() || fraction.is_empty() || whole.len() > 20 || fraction.len() > 9 {
        return None;
    }
    let ten = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole.parse::<u128>().ok()? * factor + fraction.parse::<u128>().ok()? * factor / ten)
}

impl FromStr for Time {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let nanos = scaled(s, TIMES)
            .filter(|n| *n <= LONGEST)
            .ok_or_else(|| format!("expected {}", Time::EXPECTED))?;
        let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|e| e.to_string())?;
        Ok(Time(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0))))
    }
}
impl FromStr for Size {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bytes = scaled(s, SIZES).and_then(|n| u64::try_from(n).ok());
        bytes.map(Size).ok_or_else(|| format!("expected {}", Size::EXPECTED))
    }
}
impl FromStr for Count {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let count = scaled(s, COUNTS).and_then(|n| u64::try_from(n).ok());
        count.map(Count).ok_or_else(|| format!("expected {}", Count::EXPECTED))
    }
}
impl FromStr for Usd {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        s.parse().map(Usd)
    }
}

/// The largest unit that shows `n` whole.
fn shortest(n: u128, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| n.is_multiple_of(u128::from(*factor)) && n >= u128::from(*factor);
    let (name, factor) = units.iter().filter(fits).max_by_key(|(_, f)| *f).copied().unwrap_or(("", 1));
    format!("{}{name}", n / u128::from(factor))
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos.is_multiple_of(1_000_000) && nanos > 0 {
            f.write_str(&shortest(nanos, TIMES))
        } else {
            let (whole, rest) = (nanos / 1_000_000, nanos % 1_000_000);
            if whole < 1_000_000_000 {
                write!(f, "{whole}.{rest:06}ms")
            } else {
                write!(f, "{}.{:09}s", self.0.as_secs(), self.0.subsec_nanos())
            }
        }
    }
}
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.0 == 0 { "0b".into() } else { shortest(self.0.into(), SIZES) })
    }
}
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortest(self.0.into(), COUNTS))
    }
}
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

struct Text<T>(std::marker::PhantomData<T>, &'static str);

impl<T: FromStr<Err = String>> de::Visitor<'_> for Text<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
    fn visit_str<E: de::Error>(self, s: &str) -> Result<T, E> {
        s.parse().map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<T, E> {
        n.to_string().parse().map_err(E::custom)
    }
    fn visit_i64<E: de::Error>(self, n: i64) -> Result<T, E> {
        n.to_string().parse().map_err(E::custom)
    }
    fn visit_f64<E: de::Error>(self, x: f64) -> Result<T, E> {
        // The shortest decimal that reads back as `x`: what was written, up to 15 digits.
        x.to_string().parse().map_err(E::custom)
    }
}

macro_rules! unit {
    ($name:ident, $expected:literal, $schema:tt) => {
        impl $name {
            /// What a person writes, in words.
            pub const EXPECTED: &'static str = $expected;
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_any(Text(std::marker::PhantomData, $expected))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

unit!(Time, "a length of time such as 300ms, 90s, 5m, 1h or 7d", {
    "type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)$",
    "x-expected": "a length of time such as 300ms, 90s, 5m, 1h or 7d"
});
unit!(Size, "a size such as 64kb, 32mb or 1gib", {
    "type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?([kKmMgG][iI]?)?[bB]$",
    "x-expected": "a size such as 64kb, 32mb or 1gib"
});
unit!(Count, "a count such as 1200, 200k or 1.5m", {
    "type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9]{1,12}$|^[0-9]{1,9}(\.[0-9]{1,9})?[kKmM]$",
    "maximum": 999_999_999_999_u64,
    "x-expected": "a count such as 1200, 200k or 1.5m"
});
unit!(Usd, "an amount of dollars such as 0.02", {
    "type": ["number", "string"], "minimum": 0, "maximum": 1_000_000_000, "pattern": r"^\$?[0-9]{1,9}(\.[0-9]{1,9})?$",
    "x-expected": "an amount of dollars such as 0.02"
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_exact() {
        assert_eq!("1.5s".parse(), Ok(Time(Duration::from_millis(1500))));
        assert_eq!("32mb".parse(), Ok(Size(32_000_000)));
        assert_eq!("1KiB".parse(), Ok(Size(1024)));
        assert_eq!("1.5m".parse(), Ok(Count(1_500_000)));
        assert_eq!(serde_json::from_str::<Usd>("0.02").unwrap(), Usd(Money::from_nanos(20_000_000)));
        assert!(
            "5".parse::<Time>().is_err() && "1.k".parse::<Count>().is_err() && "-1s".parse::<Time>().is_err()
        );
    }

    #[test]
    fn the_longest_and_largest_that_can_be_written_are_shown_as_they_are() {
        fn shown<T: FromStr<Err = String> + fmt::Display>(text: &str) -> String {
            text.parse::<T>().unwrap().to_string()
        }
        assert_eq!(shown::<Time>("999999999d"), "999999999d", "beyond the nanoseconds of a u64");
        for text in ["999999999.999999999d", "999999999.000000001s"] {
            assert_eq!(shown::<Time>(&shown::<Time>(text)), shown::<Time>(text));
        }
        assert_eq!(shown::<Size>("17179869183.5gib"), "17592186043904mib");
        assert_eq!(shown::<Size>("17592186043904mib"), "17592186043904mib");
        assert_eq!(shown::<Count>("99999999999.9m"), "99999999999900k");
        assert_eq!(shown::<Count>("99999999999900k"), "99999999999900k");
        for text in ["999999999999999999.5s", "99999999999999999999d", "100000000000000000000d"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0..1_000_000_000_000_u64, n in 0..1_000_000_000_000_u64) {
            let (time, size, count) = (Time(Duration::from_millis(ms)), Size(n), Count(n));
            prop_assert_eq!(time.to_string().parse(), Ok(time));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            prop_assert_eq!(count.to_string().parse(), Ok(count));
        }
    }
}
