//! Text that XML 1.0 allows, of any bytes.

/// Where text stands, which decides what must be escaped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Between tags.
    Content,
    /// In an attribute, between double quotes. A reader would make spaces of bare line ends and tabs there.
    Attribute,
}

/// Appends `bytes` as text that any reader takes, and that reads as they do on a terminal that shows everything.
///
/// Control characters, of which XML allows none but tab and line ends even when escaped, become their pictures:
/// `␛` for escape. Bytes that are no UTF-8, and the two non-characters that XML forbids, become U+FFFD.
pub(crate) fn put_text(bytes: &[u8], place: Place, out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        let mut done = 0;
        let text = chunk.valid();
        for (at, char) in text.char_indices() {
            let mut picture = [0; 4];
            let instead = match char {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' if place == Place::Attribute => "&quot;",
                '\n' if place == Place::Attribute => "&#10;",
                '\t' if place == Place::Attribute => "&#9;",
                '\r' => "&#13;",
                '\n' | '\t' => continue,
                '\0'..' ' => char::from_u32('\u{2400}' as u32 + char as u32)
                    .unwrap_or(char::REPLACEMENT_CHARACTER)
                    .encode_utf8(&mut picture),
                '\u{7f}' => "\u{2421}",
                '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
                _ => continue,
            };
            out.extend_from_slice(&text.as_bytes()[done..at]);
            out.extend_from_slice(instead.as_bytes());
            done = at + char.len_utf8();
        }
        out.extend_from_slice(&text.as_bytes()[done..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}
