//! The bytes of one answer, written once, in order, and read by any number of readers, each at its own place. Pure.
//!
//! Invariants: a reader gets the bytes behind the place where it came in, all of them, in order and once; what it has not
//! had yet is never dropped; no more than `room` bytes are kept, which is said with each piece.
//!
//! What is kept is a window of the answer: all of it as long as there is room, then what some reader still needs and as
//! much of the rest as fits. Dropped is only what every reader has had.
//!
//! Backpressure: the writer may go [`LEAD`] bytes ahead of the *fastest* reader, so that one reader slows its upstream as
//! it would without a journal; a second, slower one slows it only where the room ends. Nobody who has left counts.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes};

/// The most that is written or read at once, in bytes.
pub(crate) const PIECE: usize = 16 << 10;
/// How far the writer may be ahead of the fastest reader.
pub(crate) const LEAD: u64 = 64 << 10;
/// Pieces that are smaller are put together into blocks of about this size.
const BLOCK: usize = 4 << 10;
/// What a journal may hold beyond what it keeps: the room its last block grows into, and what is left of a dropped one.
pub(crate) const SLACK: usize = 2 * PIECE;
/// Readers of one answer at a time.
const READERS: usize = 1024;

/// A reader's number in its journal.
pub(crate) type Number = u64;

/// Why nobody can start to read at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// What is there was dropped.
    Dropped,
    /// There is nothing yet.
    Ahead,
    /// There are as many readers as there may be.
    Crowded,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Full blocks, each with the offset of its first byte.
    blocks: VecDeque<(u64, Bytes)>,
    /// What is not a block yet.
    tail: Vec<u8>,
    start: u64,
    end: u64,
    /// The place of each reader.
    readers: BTreeMap<Number, u64>,
    next: Number,
}

impl Journal {
    /// Starts to read at an offset.
    pub(crate) fn attach(&mut self, at: u64) -> Result<Number, NoPlace> {
        match () {
            () if at < self.start => Err(NoPlace::Dropped),
            () if at > self.end => Err(NoPlace::Ahead),
            () if self.readers.len() >= READERS => Err(NoPlace::Crowded),
            () => {
                self.next += 1;
                self.readers.insert(self.next, at);
                Ok(self.next)
            }
        }
    }

    /// Ends to read.
    pub(crate) fn leave(&mut self, reader: Number) {
        self.readers.remove(&reader);
    }

    /// How many read.
    pub(crate) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// The next bytes for a reader, at most [`PIECE`]; nothing when it has had all there is.
    pub(crate) fn read(&mut self, reader: Number) -> Option<Bytes> {
        let at = *self.readers.get(&reader)?;
        let mut bytes = self.at(at)?;
        bytes.truncate(PIECE);
        self.readers.insert(reader, at + bytes.len() as u64);
        Some(bytes)
    }

    /// Whether a reader has had everything so far.
    pub(crate) fn has_had_all(&self, reader: Number) -> bool {
        self.readers.get(&reader).is_none_or(|at| *at == self.end)
    }

    /// What is kept from an offset on, up to the end of its block.
    fn at(&self, offset: u64) -> Option<Bytes> {
        let n = self.blocks.partition_point(|(start, _)| *start <= offset);
        if let Some((start, block)) = n.checked_sub(1).and_then(|n| self.blocks.get(n)) {
            let mut block = block.clone();
            let skipped = usize::try_from(offset - start).unwrap_or(usize::MAX);
            if skipped < block.len() {
                block.advance(skipped);
                return Some(block);
            }
        }
        let skipped = usize::try_from(offset.checked_sub(self.tail_start())?).ok()?;
        let rest = self.tail.get(skipped..)?;
        (!rest.is_empty()).then(|| Bytes::copy_from_slice(rest.get(..PIECE).unwrap_or(rest)))
    }

    fn tail_start(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    /// Whether the writer should go on.
    pub(crate) fn wants_more(&self) -> bool {
        self.readers.values().max().is_none_or(|fastest| self.end - fastest < LEAD)
    }

    /// Writes a piece if it fits into `room` once what every reader has had is dropped as far as that is needed. Without a
    /// reader nothing is dropped: one that comes back may need it.
    #[must_use]
    pub(crate) fn append(&mut self, piece: &[u8], room: usize) -> bool {
        let over = (self.kept() + piece.len()).saturating_sub(room) as u64;
        if over > 0 {
            let had = self.readers.values().min().map_or(0, |slowest| slowest - self.start);
            if had < over {
                return false;
            }
            self.drop_first(over);
        }
        if self.tail.len() + piece.len() > BLOCK {
            self.close_tail();
        }
        self.tail.extend_from_slice(piece);
        self.end += piece.len() as u64;
        true
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let start = self.tail_start();
            // Boxed first: without the room that it grew by.
            let block = Bytes::from(std::mem::take(&mut self.tail).into_boxed_slice());
            self.blocks.push_back((start, block));
        }
    }

    fn drop_first(&mut self, bytes: u64) {
        let start = self.start + bytes;
        if start > self.tail_start() {
            self.close_tail();
        }
        while self.blocks.front().is_some_and(|(at, block)| at + block.len() as u64 <= start) {
            self.blocks.pop_front();
        }
        if let Some((at, block)) = self.blocks.front_mut()
            && *at < start
        {
            block.advance(usize::try_from(start - *at).unwrap_or(0).min(block.len()));
            *at = start;
        }
        self.start = start;
    }

    /// Nothing more is written: what was kept for it is given back.
    pub(crate) fn finish(&mut self) {
        self.close_tail();
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(usize::MAX)
    }

    /// Whether it is kept from its beginning on.
    pub(crate) fn is_whole(&self) -> bool {
        self.start == 0
    }

    /// The offset of the first byte that is kept, and all that is kept in pieces: to look for a place in.
    pub(crate) fn window(&self) -> (u64, Vec<Bytes>) {
        let blocks = self.blocks.iter().map(|(_, b)| b.clone());
        let tail = (!self.tail.is_empty()).then(|| Bytes::copy_from_slice(&self.tail));
        (self.start, blocks.chain(tail).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Append(usize),
        Attach(usize),
        Read(usize),
        Leave(usize),
        Finish,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1usize..3_000).prop_map(Step::Append),
            1 => (PIECE / 2..=PIECE).prop_map(Step::Append),
            2 => any::<prop::sample::Index>().prop_map(|i| Step::Attach(i.index(1 << 20))),
            6 => (0usize..8).prop_map(Step::Read),
            1 => (0usize..8).prop_map(Step::Leave),
            1 => Just(Step::Finish),
        ]
    }

    /// The answer: every byte says where it stands.
    fn byte(at: u64) -> u8 {
        (at.wrapping_mul(0x9E37_79B9) >> 13) as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
        #[test]
        fn whoever_comes_goes_and_returns_gets_every_byte_once_and_in_order_and_no_more_is_kept_than_there_is_room(
            steps in prop::collection::vec(step(), 1..120),
            room in PIECE..4 * PIECE,
        ) {
            let mut j = Journal::default();
            let mut written = 0u64;
            // Each reader: its number, and where it should be.
            let mut readers: Vec<(Number, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Append(n) => {
                        let piece: Vec<u8> = (written..written + n as u64).map(byte).collect();
                        let slowest = readers.iter().map(|r| r.1).min();
                        let before = (j.start, j.kept());
                        if j.append(&piece, room) {
                            written += n as u64;
                        } else {
                            // Refused is only what does not fit, and a refusal changes nothing.
                            prop_assert_eq!(before, (j.start, j.kept()));
                            let had = slowest.map_or(0, |s| (s - j.start) as usize);
                            prop_assert!(j.kept() - had + n > room);
                        }
                        if let Some(slowest) = slowest {
                            prop_assert!(j.start <= slowest, "what a reader has not had is kept");
                        } else {
                            prop_assert_eq!(before.0, j.start, "without a reader nothing is dropped");
                        }
                    }
                    Step::Attach(at) => {
                        let at = at as u64 % (written + 2);
                        match j.attach(at) {
                            Ok(number) => readers.push((number, at)),
                            Err(NoPlace::Dropped) => prop_assert!(at < j.start),
                            Err(NoPlace::Ahead) => prop_assert!(at > written),
                            Err(NoPlace::Crowded) => prop_assert!(false),
                        }
                    }
                    Step::Read(i) if !readers.is_empty() => {
                        let i = i % readers.len();
                        let (number, at) = readers[i];
                        match j.read(number) {
                            Some(bytes) => {
                                prop_assert!(!bytes.is_empty() && bytes.len() <= PIECE);
                                let expected: Vec<u8> = (at..at + bytes.len() as u64).map(byte).collect();
                                prop_assert_eq!(&bytes[..], &expected[..]);
                                readers[i].1 += bytes.len() as u64;
                            }
                            None => prop_assert_eq!(at, written, "a reader waits only at the end"),
                        }
                    }
                    Step::Leave(i) if !readers.is_empty() => {
                        let (number, _) = readers.swap_remove(i % readers.len());
                        j.leave(number);
                        prop_assert_eq!(j.read(number), None);
                    }
                    Step::Finish => j.finish(),
                    Step::Read(_) | Step::Leave(_) => {}
                }
                prop_assert!(j.kept() <= room);
                prop_assert_eq!(j.end, written);
            }
            let (start, pieces) = j.window();
            let kept: Vec<u8> = pieces.concat();
            let expected: Vec<u8> = (start..written).map(byte).collect();
            prop_assert_eq!(kept, expected, "the window has no hole");
        }
    }

    #[test]
    fn the_fastest_reader_holds_back_the_writer_and_nobody_who_left() {
        let mut j = Journal::default();
        assert!(j.wants_more());
        let (slow, fast) = (j.attach(0).unwrap(), j.attach(0).unwrap());
        while j.wants_more() {
            assert!(j.append(&[0; PIECE], usize::MAX));
        }
        assert_eq!(j.kept() as u64, LEAD);
        while j.read(fast).is_some() {}
        assert!(j.wants_more(), "the slow one does not hold it back");
        j.leave(fast);
        assert!(!j.wants_more());
        j.leave(slow);
        assert!(j.wants_more(), "nobody who left does");
    }

    #[test]
    fn there_are_as_many_readers_as_there_may_be() {
        let mut j = Journal::default();
        let all: Vec<Number> = (0..READERS).map(|_| j.attach(0).unwrap()).collect();
        assert_eq!(j.attach(0), Err(NoPlace::Crowded));
        j.leave(all[0]);
        assert!(j.attach(0).is_ok());
    }
}
