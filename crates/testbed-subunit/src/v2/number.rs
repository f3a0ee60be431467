//! Numbers of variable length: the top two bits of the first octet count the octets that follow it.

/// The largest number: 30 bits.
pub(super) const MAX: usize = 0x3fff_ffff;

/// Octets that `value` takes when it is written as short as can be. At most [`MAX`] is taken.
#[inline]
pub(super) fn length(value: usize) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x40_0000 => 3,
        _ => 4,
    }
}

/// `rest`, and the octets of a number that counts both.
#[inline]
pub(super) fn with_itself(rest: usize) -> usize {
    // Its own octets can be what makes it need one more.
    rest + length(rest + length(rest))
}

/// Octets that a string of `bytes` bytes takes, with its length before it.
#[inline]
pub(super) fn string_length(bytes: usize) -> usize {
    length(bytes) + bytes
}

/// Appends `value`, as short as can be. It is at most [`MAX`].
#[inline]
pub(super) fn put(out: &mut Vec<u8>, value: usize) {
    debug_assert!(value <= MAX);
    let value = value as u32;
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x40_0000 => out.extend_from_slice(&(value | 0x80_0000).to_be_bytes()[1..]),
        _ => out.extend_from_slice(&(value | 0xc000_0000).to_be_bytes()),
    }
}

/// Takes a number from the front of `bytes`, however long it is written. `None` where `bytes` ends within it.
#[inline]
pub(super) fn take(bytes: &mut &[u8]) -> Option<usize> {
    let (&first, mut rest) = bytes.split_first()?;
    let mut value = usize::from(first & 0x3f);
    if first >= 0x40 {
        let octets;
        (octets, rest) = rest.split_at_checked(usize::from(first >> 6))?;
        for &octet in octets {
            value = value << 8 | usize::from(octet);
        }
    }
    *bytes = rest;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodings as python-subunit 1.4.6 writes them.
    const WRITTEN: [(usize, &[u8]); 8] = [
        (0, &[0x00]),
        (63, &[0x3f]),
        (64, &[0x40, 0x40]),
        (16_383, &[0x7f, 0xff]),
        (16_384, &[0x80, 0x40, 0x00]),
        (4_194_303, &[0xbf, 0xff, 0xff]),
        (4_194_304, &[0xc0, 0x40, 0x00, 0x00]),
        (MAX, &[0xff, 0xff, 0xff, 0xff]),
    ];

    #[test]
    fn written_and_read() {
        for (value, octets) in WRITTEN {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, octets);
            assert_eq!(length(value), octets.len());
            let mut rest = octets;
            assert_eq!((take(&mut rest), rest), (Some(value), &[][..]));
            for end in 0..octets.len() {
                assert_eq!(take(&mut &octets[..end]), None);
            }
        }
    }

    #[test]
    fn longer_than_need_be_is_read() {
        assert_eq!(take(&mut &[0x40, 13][..]), Some(13));
        assert_eq!(take(&mut &[0xc0, 0, 0, 13][..]), Some(13));
    }
}
