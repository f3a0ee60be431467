//! CRCs of overlapping candidates, each without reading the candidate again.
//!
//! A writer of ill will can make every few bytes the start of a candidate of 4 MiB. To sum each from its start
//! would take minutes for one packet's worth of input. So once a long candidate has failed, the sums of what lies
//! behind its start are kept for every [`STEP`] bytes, and a later candidate reads two steps at most.

use std::collections::VecDeque;

use crc32fast::Hasher;

/// Bytes between two sums that are kept.
const STEP: usize = 1024;

/// CRCs of a stretch of the stream, from its start to each of its steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Checksums {
    /// Where in the stream the first of `sums` ends.
    first: u64,
    /// CRCs from one same place, each [`STEP`] bytes further. Only differences between them are meaningful.
    sums: VecDeque<u32>,
}

impl Checksums {
    /// The CRC-32 of `bytes`, which begin at `offset` of the stream.
    #[inline]
    pub(super) fn of(&mut self, offset: u64, bytes: &[u8]) -> u32 {
        if self.sums.is_empty() {
            return crc32fast::hash(bytes);
        }
        self.of_watched(offset, bytes)
    }

    /// Keeps sums of `bytes`, because further candidates may begin among them.
    pub(super) fn watch(&mut self, offset: u64, bytes: &[u8]) {
        if self.sums.is_empty() && bytes.len() > 2 * STEP {
            self.first = offset;
            self.sums.push_back(0);
            self.extend(bytes);
        }
    }

    /// Adds the sums of all whole steps of `bytes`, which begin at `self.first`.
    fn extend(&mut self, bytes: &[u8]) {
        let Some(&last) = self.sums.back() else { return };
        let known = (self.sums.len() - 1) * STEP;
        let mut hasher = Hasher::new_with_initial(last);
        for step in bytes.get(known..).unwrap_or_default().chunks_exact(STEP) {
            hasher.update(step);
            self.sums.push_back(hasher.clone().finalize());
        }
    }

    fn of_watched(&mut self, offset: u64, bytes: &[u8]) -> u32 {
        let steps_before = |from: u64| (offset.saturating_sub(from)).div_ceil(STEP as u64) as usize;
        let passed = steps_before(self.first);
        if passed >= self.sums.len() {
            self.sums.clear();
            return crc32fast::hash(bytes);
        }
        self.sums.drain(..passed);
        self.first += (passed * STEP) as u64;
        let head = (self.first - offset) as usize;
        if head + STEP > bytes.len() {
            return crc32fast::hash(bytes);
        }
        let (head, rest) = bytes.split_at(head);
        self.extend(rest);
        let steps = rest.len() / STEP;
        let (middle, tail) = rest.split_at(steps * STEP);
        let middle_sum = appended(self.sums[0], 0, middle.len()) ^ self.sums[steps];
        let sum = appended(crc32fast::hash(head), middle_sum, middle.len());
        appended(sum, crc32fast::hash(tail), tail.len())
    }
}

/// The CRC of two pieces in a row, by their CRCs and the second one's length.
pub(super) fn appended(first: u32, second: u32, second_length: usize) -> u32 {
    let mut hasher = Hasher::new_with_initial(first);
    hasher.combine(&Hasher::new_with_initial_len(second, second_length as u64));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_of_overlapping_candidates(
            stream in proptest::collection::vec(any::<u8>(), 8 * STEP),
            mut starts in proptest::collection::vec((0..7 * STEP, 1..8 * STEP), 1..20),
        ) {
            starts.sort_unstable();
            let mut checksums = Checksums::default();
            for (start, length) in starts {
                let bytes = &stream[start..stream.len().min(start + length)];
                prop_assert_eq!(checksums.of(start as u64, bytes), crc32fast::hash(bytes));
                checksums.watch(start as u64, bytes);
            }
        }
    }
}
