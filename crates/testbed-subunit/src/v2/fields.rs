//! The fields of a packet whose length and CRC are known to be right.

use thiserror::Error;

use super::{flag, number};
use crate::event::{Draft, EventRef, FileRef, Status, Tags, Timestamp};

/// What is wrong with the fields of a packet whose CRC is right.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum FieldError {
    /// A field claims more bytes than the packet has left.
    #[error("field goes past the end of the packet")]
    PastEnd,
    /// A string holds U+0000.
    #[error("string holds a NUL character")]
    Nul,
    /// A string is no UTF-8.
    #[error("string is no UTF-8")]
    Utf8,
    /// The nanoseconds are a second or more.
    #[error("nanoseconds are a second or more")]
    Nanoseconds,
    /// Bytes are left when all fields have been read.
    #[error("bytes are left between the last field and the checksum")]
    Trailing,
}

/// Reads the fields that `flags` announces from `body`: what lies between the length and the CRC.
#[inline(always)]
pub(super) fn parse(flags: u16, mut body: &[u8]) -> Result<EventRef<'_>, FieldError> {
    let has = |flag: u16| flags & flag != 0;
    let rest = &mut body;
    let mut draft = Draft {
        status: Status::from_code((flags & flag::STATUS) as u8),
        runnable: has(flag::RUNNABLE),
        eof: has(flag::EOF),
        ..Draft::default()
    };
    if has(flag::TIMESTAMP) {
        draft.timestamp = Some(take_timestamp(rest)?);
    }
    if has(flag::ID) {
        draft.id = Some(take_str(rest)?);
    }
    if has(flag::TAGS) {
        draft.tags = take_tags(rest)?;
    }
    if has(flag::MIME) {
        draft.mime = Some(take_str(rest)?);
    }
    if has(flag::FILE) {
        draft.file = Some(FileRef { name: take_str(rest)?, bytes: take_bytes(rest)? });
    }
    if has(flag::ROUTE) {
        draft.route = Some(take_str(rest)?);
    }
    if !rest.is_empty() {
        return Err(FieldError::Trailing);
    }
    Ok(EventRef(draft))
}

/// Bytes of the fields that stand before the route, of a packet whose fields have been checked.
pub(super) fn before_route(flags: u16, body: &[u8]) -> usize {
    let has = |flag: u16| flags & flag != 0;
    if !has(flag::ROUTE) {
        return body.len();
    }
    let mut rest = body;
    let skip = |rest: &mut &[u8], strings: usize| (0..strings).all(|_| take_bytes(rest).is_ok());
    if has(flag::TIMESTAMP) {
        rest = rest.get(4..).unwrap_or_default();
        number::take(&mut rest);
    }
    skip(&mut rest, usize::from(has(flag::ID)));
    if has(flag::TAGS) {
        let count = number::take(&mut rest).unwrap_or(0);
        skip(&mut rest, count);
    }
    skip(&mut rest, usize::from(has(flag::MIME)) + 2 * usize::from(has(flag::FILE)));
    body.len() - rest.len()
}

#[inline]
fn take_timestamp(rest: &mut &[u8]) -> Result<Timestamp, FieldError> {
    let (seconds, after) = rest.split_first_chunk().ok_or(FieldError::PastEnd)?;
    *rest = after;
    let nanos = number::take(rest).ok_or(FieldError::PastEnd)?;
    Timestamp::new(u32::from_be_bytes(*seconds), nanos as u32).map_err(|_| FieldError::Nanoseconds)
}

#[inline]
fn take_tags<'a>(rest: &mut &'a [u8]) -> Result<Tags<'a>, FieldError> {
    let count = number::take(rest).ok_or(FieldError::PastEnd)?;
    let all = *rest;
    let mut shortest = 0;
    for _ in 0..count {
        shortest += number::string_length(take_str(rest)?.len());
    }
    let bytes = &all[..all.len() - rest.len()];
    Ok(Tags::in_packet(count, bytes, shortest == bytes.len()))
}

/// Takes a string of UTF-8 without NUL from the front of `rest`.
#[inline(always)]
pub(crate) fn take_str<'a>(rest: &mut &'a [u8]) -> Result<&'a str, FieldError> {
    let bytes = take_bytes(rest)?;
    let text = std::str::from_utf8(bytes).map_err(|_| FieldError::Utf8)?;
    if has_nul(bytes) {
        return Err(FieldError::Nul);
    }
    Ok(text)
}

/// Looks at eight bytes at once, and at the last eight again instead of at a rest.
#[inline]
fn has_nul(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.contains(&0);
    };
    let (words, _) = bytes.as_chunks();
    words.iter().fold(zeros(last), |seen, word| seen | zeros(word)) != 0
}

/// Not 0 where one of the bytes is 0: only there does taking one away set the top bit of a byte that had it not.
#[inline]
fn zeros(word: &[u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(*word);
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

#[inline]
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FieldError> {
    let length = number::take(rest).ok_or(FieldError::PastEnd)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(FieldError::PastEnd)?;
    *rest = after;
    Ok(bytes)
}
