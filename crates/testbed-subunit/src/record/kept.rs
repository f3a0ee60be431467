use std::collections::VecDeque;

/// Bytes of which no more than a limit is kept: the first ones and the last ones.
///
/// The start of a program's output tells what it was, and its end how it failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    head: Vec<u8>,
    head_limit: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    left_out: u64,
}

impl Kept {
    /// Nothing so far, and at most `limit` bytes of what comes.
    pub fn new(limit: usize) -> Self {
        let tail_limit = limit / 2;
        Self {
            head: Vec::new(),
            head_limit: limit - tail_limit,
            tail: VecDeque::new(),
            tail_limit,
            left_out: 0,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        let last = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let over = (self.tail.len() + last.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.tail.extend(last);
        self.left_out += (over + rest.len() - last.len()) as u64;
    }

    /// Bytes that were left out of the middle.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Bytes that came.
    pub fn total(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.left_out
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// What was kept, with a line that says how much is left out where something is:
    /// `[... 123456 bytes left out ...]`.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        if self.left_out > 0 {
            let line = if bytes.ends_with(b"\n") { "" } else { "\n" };
            bytes.extend(format!("{line}[... {} bytes left out ...]\n", self.left_out).into_bytes());
        }
        bytes.extend(&self.tail);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_middle_is_left_out() {
        let mut kept = Kept::new(8);
        kept.push(b"abcdefgh");
        assert_eq!(kept.to_vec(), b"abcdefgh");
        kept.push(b"ij");
        assert_eq!(kept.to_vec(), b"abcd\n[... 2 bytes left out ...]\nghij");
        kept.push(b"0123456789");
        assert_eq!(kept.to_vec(), b"abcd\n[... 12 bytes left out ...]\n6789");
        assert_eq!((kept.total(), kept.left_out()), (20, 12));
    }

    #[test]
    fn nothing_may_be_kept() {
        let mut kept = Kept::new(0);
        kept.push(b"abc");
        assert_eq!((kept.total(), kept.left_out()), (3, 3));
    }

    proptest! {
        #[test]
        fn head_and_tail_whatever_the_pieces(
            limit in 0..40usize,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..10),
        ) {
            let mut kept = Kept::new(limit);
            pieces.iter().for_each(|piece| kept.push(piece));
            let all = pieces.concat();
            prop_assert_eq!(kept.total(), all.len() as u64);
            if all.len() <= limit {
                prop_assert_eq!(kept.to_vec(), all);
            } else {
                prop_assert_eq!(kept.left_out(), (all.len() - limit) as u64);
                let shown = kept.to_vec();
                prop_assert!(shown.starts_with(&all[..limit.div_ceil(2)]));
                prop_assert!(shown.ends_with(&all[all.len() - limit / 2..]));
            }
        }
    }
}
