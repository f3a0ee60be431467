/// The bytes of a stream, line by line, however they come.
///
/// It holds at most one line, and no line of more than `LIMIT` bytes, its end included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines<const LIMIT: usize> {
    /// What has come of the line at hand.
    begun: Vec<u8>,
    too_long: bool,
}

/// A line, or a piece of one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Line<'a> {
    /// A line with its end. Only the last of a stream may have none.
    Whole(&'a [u8]),
    /// A piece of a line that is longer than the limit.
    Piece(&'a [u8]),
}

/// Bytes of a piece of a line that is too long. The last may have fewer.
const PIECE: usize = 64 * 1024;

impl<const LIMIT: usize> Lines<LIMIT> {
    /// Takes the next bytes, and calls `each` with the lines that they complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end + 1);
            bytes = rest;
            if self.begun.is_empty() && !self.too_long && line.len() <= LIMIT {
                each(Line::Whole(line));
            } else {
                self.push(line, &mut each);
                self.end(&mut each);
            }
        }
        self.push(bytes, &mut each);
    }

    /// The stream has ended.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        self.end(&mut each);
    }

    /// Takes bytes of one line.
    fn push(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if !self.too_long && self.begun.len() + bytes.len() > LIMIT {
            self.too_long = true;
            // The pieces are those that there would be if it had been known from the line's start.
            let begun = std::mem::take(&mut self.begun);
            let whole = begun.len() - begun.len() % PIECE;
            begun[..whole].chunks(PIECE).for_each(|piece| each(Line::Piece(piece)));
            self.begun.extend_from_slice(&begun[whole..]);
        }
        while self.too_long && self.begun.len() + bytes.len() >= PIECE {
            let (now, later) = bytes.split_at(PIECE - self.begun.len());
            if self.begun.is_empty() {
                each(Line::Piece(now));
            } else {
                self.begun.extend_from_slice(now);
                each(Line::Piece(&self.begun));
                self.begun.clear();
            }
            bytes = later;
        }
        self.begun.extend_from_slice(bytes);
    }

    fn end(&mut self, each: &mut impl FnMut(Line<'_>)) {
        if !self.begun.is_empty() {
            each(if self.too_long { Line::Piece(&self.begun) } else { Line::Whole(&self.begun) });
        }
        self.begun.clear();
        // One long line is no reason to keep its memory for as long as the stream lasts.
        self.begun.shrink_to(PIECE);
        self.too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pieces: &[&[u8]]) -> Vec<(bool, Vec<u8>)> {
        let mut lines = Lines::<PIECE>::default();
        let mut seen = Vec::new();
        let mut each = |line: Line<'_>| match line {
            Line::Whole(bytes) => seen.push((true, bytes.to_vec())),
            Line::Piece(bytes) => seen.push((false, bytes.to_vec())),
        };
        pieces.iter().for_each(|piece| lines.feed(piece, &mut each));
        lines.finish(&mut each);
        assert!(lines.begun.capacity() <= 2 * PIECE);
        seen
    }

    #[test]
    fn the_same_lines_however_cut() {
        let mut stream = b"a\n\nbc\n".to_vec();
        stream.extend(vec![b'x'; PIECE - 1]);
        stream.push(b'\n');
        stream.extend(vec![b'y'; 3 * PIECE + 5]);
        stream.extend(b"\nlast");
        let whole = seen(&[&stream]);
        let shapes: Vec<_> = whole.iter().map(|(whole, bytes)| (*whole, bytes.len())).collect();
        let long = [(false, PIECE), (false, PIECE), (false, PIECE), (false, 6)];
        let expected = [&[(true, 2), (true, 1), (true, 3), (true, PIECE)][..], &long, &[(true, 4)]].concat();
        assert_eq!(shapes, expected);
        assert_eq!(whole.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>(), stream);
        for size in [1, 7, 1000, PIECE - 1, PIECE, PIECE + 1, 100_000] {
            assert_eq!(seen(&stream.chunks(size).collect::<Vec<_>>()), whole, "pieces of {size}");
        }
    }
}
