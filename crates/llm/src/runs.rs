//! Runs of bytes of one sort, and the tokens they make by [`crate::tokens::Estimate`]'s rules.
//!
//! Every byte of every prompt comes here, so ASCII is read a block at a time: the sorts of 64 bytes become a word of bits
//! for each sort, and a run is where such a word has ones. Whatever else comes is read byte by byte.
//!
//! Invariant: the tokens do not depend on how the bytes were split into blocks.

/// Bytes that are read at once.
pub(crate) const BLOCK: usize = 64;

/// The sort of a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Sort {
    /// Of no byte: there was none.
    #[default]
    None,
    Letter,
    Digit,
    Blank,
    Sign,
    Wide,
    /// Goes on with a character: of the sort of the byte before it.
    Rest,
}

#[expect(clippy::indexing_slicing, reason = "computed by the compiler, and a byte is an index of 256 places")]
static SORTS: [Sort; 256] = {
    let mut sorts = [Sort::Sign; 256];
    let mut b = 0u8;
    loop {
        sorts[b as usize] = match b {
            b'a'..=b'z' | b'A'..=b'Z' => Sort::Letter,
            b'0'..=b'9' => Sort::Digit,
            b' ' | b'\t' | b'\r' | b'\n' => Sort::Blank,
            0x80..=0xBF => Sort::Rest,
            // U+0080 to U+017F: letters of words that are otherwise ASCII, nearly all of them.
            0xC0..=0xC5 => Sort::Letter,
            0xC6.. => Sort::Wide,
            _ => Sort::Sign,
        };
        if b == u8::MAX {
            break sorts;
        }
        b += 1;
    }
};

fn sort(b: u8) -> Sort {
    SORTS.get(usize::from(b)).copied().unwrap_or(Sort::Sign)
}

/// What was counted, and the run that is still open.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    tokens: u64,
    wide: u64,
    open: Sort,
    run: u64,
}

/// Where in a block the bytes of a sort are: the bit of the first byte is the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    letters: u64,
    digits: u64,
    blanks: u64,
}

impl Places {
    /// `None` when not all of it is ASCII.
    fn of(block: &[u8; BLOCK]) -> Option<Places> {
        if !block.is_ascii() {
            return None;
        }
        // Three bits a byte, by steps that a compiler takes for many bytes at once.
        let mut sorts = [0u8; BLOCK];
        for (sort, b) in sorts.iter_mut().zip(block) {
            let letter = u8::from((b | 0x20).wrapping_sub(b'a') < 26);
            let digit = u8::from(b.wrapping_sub(b'0') < 10);
            let blank =
                u8::from(*b == b' ') | u8::from(*b == b'\n') | u8::from(*b == b'\t') | u8::from(*b == b'\r');
            *sort = letter | digit << 1 | blank << 2;
        }
        let mut places = Places { letters: 0, digits: 0, blanks: 0 };
        for (n, eight) in sorts.as_chunks::<8>().0.iter().enumerate() {
            let eight = u64::from_le_bytes(*eight);
            places.letters |= lowest_bits(eight) << (8 * n);
            places.digits |= lowest_bits(eight >> 1) << (8 * n);
            places.blanks |= lowest_bits(eight >> 2) << (8 * n);
        }
        Some(places)
    }

    fn all(&self, sort: Sort) -> u64 {
        match sort {
            Sort::Letter => self.letters,
            Sort::Digit => self.digits,
            Sort::Blank => self.blanks,
            Sort::Sign => !(self.letters | self.digits | self.blanks),
            Sort::None | Sort::Wide | Sort::Rest => 0,
        }
    }

    fn at(&self, bit: u64) -> Sort {
        match bit {
            b if self.letters & b != 0 => Sort::Letter,
            b if self.blanks & b != 0 => Sort::Blank,
            b if self.digits & b != 0 => Sort::Digit,
            _ => Sort::Sign,
        }
    }
}

/// The lengths of the runs of ones. None of them has all 64.
fn runs(mut ones: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        if ones == 0 {
            return None;
        }
        let begins = ones.trailing_zeros();
        let run = (ones >> begins).trailing_ones();
        ones &= u64::MAX.checked_shl(begins + run).unwrap_or(0);
        Some(u64::from(run))
    })
}

/// The same without the last `worn` ones of each run.
#[inline(always)]
fn worn_off(ones: u64, worn: u32) -> u64 {
    let (mut left, mut gone) = (ones, 0);
    while gone < worn {
        let by = (gone + 1).min(worn - gone);
        left &= left >> by;
        gone += by;
    }
    left
}

/// The lowest bit of each byte, side by side.
fn lowest_bits(eight: u64) -> u64 {
    (eight & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

impl Runs {
    fn close(&mut self, sort: Sort, run: u64) {
        self.tokens += match sort {
            Sort::Letter => 1 + run.saturating_sub(4) / 6,
            Sort::Digit => run.div_ceil(3),
            Sort::Sign => run.div_ceil(2),
            // Indentation is one token, whatever its length; a single blank belongs to what follows.
            Sort::Blank => u64::from(run > 1),
            Sort::None => 0,
            Sort::Wide | Sort::Rest => {
                self.wide += run;
                0
            }
        };
    }

    /// More bytes of one sort.
    fn more(&mut self, sort: Sort, run: u64) {
        if sort == self.open {
            self.run += run;
        } else {
            self.close(self.open, self.run);
            (self.open, self.run) = (sort, run);
        }
    }

    /// Reads them one by one.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (mut open, mut run) = (self.open, self.run);
        for b in bytes {
            let s = sort(*b);
            if s == open || s == Sort::Rest {
                run += 1;
            } else {
                self.close(open, run);
                (open, run) = (s, 1);
            }
        }
        (self.open, self.run) = (open, run);
    }

    pub(crate) fn block(&mut self, block: &[u8; BLOCK]) {
        let Some(places) = Places::of(block) else {
            return self.bytes(block);
        };
        // The first run may go on from the block before, and the last into the next.
        let first = places.at(1);
        let begins = places.all(first).trailing_ones();
        self.more(first, u64::from(begins));
        if begins == 64 {
            return;
        }
        self.close(first, self.run);
        let last = places.at(1 << 63);
        let ends = places.all(last).leading_ones();
        let inner = u64::MAX << begins & u64::MAX >> ends;
        // Nearly every run is one token. A longer one has ones left when its end is worn off, and they say how much longer.
        for (sort, worn, each) in [(Sort::Letter, 9, 6), (Sort::Sign, 2, 2), (Sort::Digit, 3, 3)] {
            let at = places.all(sort) & inner;
            let longer: u64 = runs(worn_off(at, worn)).map(|left| 1 + (left - 1) / each).sum();
            self.tokens += u64::from((at & !(at << 1)).count_ones()) + longer;
        }
        let blanks = places.blanks & inner;
        self.tokens += u64::from((blanks & blanks >> 1 & !(blanks << 1)).count_ones());
        (self.open, self.run) = (last, u64::from(ends));
    }

    /// The tokens of all that came; none of nothing.
    pub(crate) fn end(mut self) -> u64 {
        if self.open == Sort::None {
            return 0;
        }
        self.close(self.open, self.run);
        (self.tokens + (self.wide * 2).div_ceil(5)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn byte_by_byte(text: &str) -> u64 {
        let mut runs = Runs::default();
        runs.bytes(text.as_bytes());
        runs.end()
    }

    proptest! {
        #[test]
        fn blocks_count_what_their_bytes_count(
            text in prop_oneof![
                any::<String>(),
                "[a-zA-Z0-9 \\n\\t.,;\"-]{0,300}",
                "([a-z]{1,14} {1,3}|[0-9]{1,9}|[!-/]{1,5}|é|漢|\\n {0,70}|x{60,70}){0,60}",
            ],
            lead in 0usize..64,
        ) {
            let text = format!("{}{text}", "y".repeat(lead));
            let mut runs = Runs::default();
            let (blocks, rest) = text.as_bytes().as_chunks::<BLOCK>();
            blocks.iter().for_each(|b| runs.block(b));
            runs.bytes(rest);
            prop_assert_eq!(runs.end(), byte_by_byte(&text));
        }
    }

    #[test]
    fn every_ascii_byte_has_its_place() {
        for b in 0..0x80u8 {
            let places = Places::of(&[b; BLOCK]).unwrap();
            assert_eq!(places.at(1 << 17), sort(b), "{b}");
            assert_eq!(places.all(sort(b)), u64::MAX, "{b}");
        }
    }
}
