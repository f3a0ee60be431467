use super::{CRC_LENGTH, SIGNATURE, VERSION, flag, number};
use crate::event::{Draft, EventRef};

/// Appends the packet of `event` to `out`.
///
/// Numbers are written as short as can be, and no field is written that says nothing. What is appended is one packet
/// that every reader takes: [`EventRef`] guarantees it.
///
/// ```
/// use testbed_subunit::{Draft, Status, v2};
///
/// let mut out = Vec::new();
/// v2::encode(&Draft::test("foo", Status::Exists).check()?, &mut out);
/// assert_eq!(out, b"\xb3\x29\x01\x0c\x03foo\x08\x55\x5f\x1b");
/// # Ok::<(), testbed_subunit::EventError>(())
/// ```
pub fn encode(event: &EventRef<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    put_content(event, out);
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Appends all of the packet of `event` but its CRC.
#[inline]
pub(super) fn put_content(event: &EventRef<'_>, out: &mut Vec<u8>) {
    let draft = &event.0;
    let length = packet_length(draft);
    out.reserve(length);
    out.push(SIGNATURE);
    out.extend_from_slice(&flags(draft).to_be_bytes());
    number::put(out, length);
    if let Some(time) = draft.timestamp {
        out.extend_from_slice(&time.seconds().to_be_bytes());
        number::put(out, time.nanos() as usize);
    }
    if let Some(id) = draft.id {
        put_bytes(out, id.as_bytes());
    }
    if !draft.tags.is_empty() {
        number::put(out, draft.tags.len());
        match draft.tags.as_packet() {
            Some(bytes) => out.extend_from_slice(bytes),
            None => draft.tags.iter().for_each(|tag| put_bytes(out, tag.as_bytes())),
        }
    }
    if let Some(mime) = draft.mime {
        put_bytes(out, mime.as_bytes());
    }
    if let Some(file) = draft.file {
        put_bytes(out, file.name.as_bytes());
        put_bytes(out, file.bytes);
    }
    if let Some(route) = draft.route {
        put_bytes(out, route.as_bytes());
    }
}

/// Bytes of the packet that `draft` would become, were there no limit.
#[inline]
pub(crate) fn packet_length(draft: &Draft<'_>) -> usize {
    let text = |text: Option<&str>| text.map_or(0, |text| number::string_length(text.len()));
    let mut length = 1 + 2 + CRC_LENGTH + text(draft.id) + text(draft.mime) + text(draft.route);
    if let Some(time) = draft.timestamp {
        length += 4 + number::length(time.nanos() as usize);
    }
    if !draft.tags.is_empty() {
        length += number::length(draft.tags.len());
        length += match draft.tags.as_packet() {
            Some(bytes) => bytes.len(),
            None => draft.tags.iter().map(|tag| number::string_length(tag.len())).sum(),
        };
    }
    if let Some(file) = draft.file {
        length += number::string_length(file.name.len()) + number::string_length(file.bytes.len());
    }
    number::with_itself(length)
}

#[inline]
fn flags(draft: &Draft<'_>) -> u16 {
    let when = |is: bool, flag: u16| if is { flag } else { 0 };
    VERSION
        | draft.status.map_or(0, |status| status.code().into())
        | when(draft.id.is_some(), flag::ID)
        | when(draft.route.is_some(), flag::ROUTE)
        | when(draft.timestamp.is_some(), flag::TIMESTAMP)
        | when(draft.runnable, flag::RUNNABLE)
        | when(!draft.tags.is_empty(), flag::TAGS)
        | when(draft.file.is_some(), flag::FILE)
        | when(draft.mime.is_some(), flag::MIME)
        | when(draft.eof, flag::EOF)
}

#[inline]
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number::put(out, bytes.len());
    out.extend_from_slice(bytes);
}
