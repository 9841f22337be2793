//! Values as columns have them, and back.

use std::borrow::Cow;

use contract::{Money, RunId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::PgRow;
use store::Error;

/// The largest figure a single record contributes to a sum: sums over thousands of hostile records stay in range.
const MOST: u64 = 1 << 52;

/// A count as a column.
pub(crate) fn column(n: u64) -> i64 {
    i64::try_from(n.min(MOST)).unwrap_or(i64::MAX)
}

/// Nanodollars as a column.
pub(crate) fn money(m: Money) -> i64 {
    m.nanos().clamp(-(MOST as i64), MOST as i64)
}

/// A column as a count.
pub(crate) fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Text that the database can hold.
pub(crate) fn text(s: &str) -> Cow<'_, str> {
    match s.contains('\0') {
        true => Cow::Owned(s.replace('\0', "\u{2400}")),
        false => Cow::Borrowed(s),
    }
}

/// A time, or none.
pub(crate) fn time(row: &PgRow, at: usize) -> Result<Option<UnixMillis>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(at)?.map(UnixMillis))
}

/// An id as a column has it.
pub(crate) fn id(row: &PgRow, at: usize) -> Result<RunId, Error> {
    let bytes: Vec<u8> = row.try_get(at)?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::Decode("a run's id has 16 bytes".into()))?;
    Ok(RunId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_beyond_what_sums_can_hold_are_cut_and_nul_is_shown() {
        assert_eq!((column(u64::MAX), column(7)), (1 << 52, 7));
        assert_eq!((money(Money::MAX), money(Money::from_nanos(-5))), (1 << 52, -5));
        assert_eq!((count(-1), count(9)), (0, 9));
        assert_eq!((text("a\0b"), text("ab")), ("a\u{2400}b".into(), "ab".into()));
    }
}
