//! What readers have in common when they make events of what they were given.

use std::borrow::Cow;

use crate::event::{Draft, EventRef, Status};

/// MIME type of a file that is known to be text.
pub(crate) const TEXT: &str = "text/plain;charset=utf8";

/// The longest id, tag or file name that a reader makes, in bytes.
const NAME_MAX: usize = 4096;

/// The most bytes of a file in one event.
const PIECE: usize = 64 * 1024;

/// A text from outside as a name that an event may have.
///
/// NUL becomes its picture `␀`. A name of more than 4 KiB is cut, and ends with the checksum of the whole, so that
/// two of them still differ.
pub(crate) fn name(text: &str) -> Cow<'_, str> {
    let text =
        if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) };
    if text.len() <= NAME_MAX {
        return text;
    }
    let end = format!("…{:08x}", crc32fast::hash(text.as_bytes()));
    let cut = text.floor_char_boundary(NAME_MAX - end.len());
    Cow::Owned(text[..cut].to_owned() + &end)
}

/// What a reader calls with events.
pub(crate) type Each<'a> = dyn FnMut(EventRef<'_>) + 'a;

/// Calls `each` with the events of `draft`, whose file may be of any length. Its names went through [`name`].
pub(crate) fn emit(draft: Draft<'_>, each: &mut Each<'_>) {
    let events = draft.split(PIECE);
    debug_assert!(events.is_ok(), "names are checked before");
    events.into_iter().flatten().for_each(each);
}

/// The draft with the file `reason`, if there is one.
pub(crate) fn explained<'a>(draft: Draft<'a>, reason: Option<&'a str>) -> Draft<'a> {
    match reason {
        Some(reason) => draft.file("reason", reason.as_bytes()).mime(TEXT).eof(true),
        None => draft,
    }
}

/// Bytes that a reader does not understand: output of no test.
pub(crate) fn output(bytes: &[u8], each: &mut Each<'_>) {
    emit(Draft::output("stdout", bytes), each);
}

/// Something is wrong with the stream as a whole: a failure of `report`.
pub(crate) fn fault(reason: &str, each: &mut Each<'_>) {
    emit(explained(Draft::test("report", Status::Fail), Some(reason)), each);
}

/// The first line of `text` that says something, cut to half a KiB: a reason.
pub(crate) fn first_line(text: &str) -> Option<&str> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line[..line.floor_char_boundary(512)].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_and_differ() {
        assert_eq!(name("a\0b"), "a\u{2400}b");
        let long = "\u{2603}".repeat(5000);
        let longer = format!("{long}\0");
        assert!(name(&long).len() <= NAME_MAX && name(&long) != name(&longer));
        assert!(Draft::new().id(&*name(&longer)).check().is_ok());
        // What stands for NUL is longer than NUL.
        let nuls = "\0".repeat(4000);
        assert!(name(&nuls).len() <= NAME_MAX && name(&name(&nuls)) == name(&nuls));
    }
}
