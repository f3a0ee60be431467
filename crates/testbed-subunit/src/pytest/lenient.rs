//! Python's JSON, of which other readers do not take all.

/// The same JSON with U+FFFD for halves of surrogate pairs (`\udcff`), and null for `NaN` and `Infinity`.
pub(super) fn json(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut rest = line;
    let mut in_string = false;
    while let Some(&byte) = rest.first() {
        let (length, instead): (usize, Option<&[u8]>) = match (in_string, byte) {
            (true, b'\\') => match unit(rest) {
                Some(high) if (0xd800..0xdc00).contains(&high) => {
                    let low = rest.get(6..).and_then(unit).is_some_and(|low| (0xdc00..0xe000).contains(&low));
                    if low { (12, None) } else { (6, Some(b"\\ufffd")) }
                }
                Some(low) if (0xdc00..0xe000).contains(&low) => (6, Some(b"\\ufffd")),
                _ => (2, None),
            },
            (false, b'N') if rest.starts_with(b"NaN") => (3, Some(b"null")),
            (false, b'I') if rest.starts_with(b"Infinity") => (8, Some(b"null")),
            (false, b'-') if rest.starts_with(b"-Infinity") => (9, Some(b"null")),
            (_, b'"') => {
                in_string = !in_string;
                (1, None)
            }
            _ => (1, None),
        };
        let (now, later) = rest.split_at(length.min(rest.len()));
        out.extend_from_slice(instead.unwrap_or(now));
        rest = later;
    }
    out
}

/// The code unit of an escape `\uXXXX` that the text begins with.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes() {
        for (text, expected) in [
            (r#"{"a": "\udcff"}"#, r#"{"a": "\ufffd"}"#),
            (r#""\ud83d\ude00 \ud83d \\ud83d""#, r#""\ud83d\ude00 \ufffd \\ud83d""#),
            (r#"[NaN, -Infinity, "NaN", "\"NaN"]"#, r#"[null, null, "NaN", "\"NaN"]"#),
            (r#""\"#, r#""\"#),
            (r#""\ud8"#, r#""\ud8"#),
        ] {
            assert_eq!(String::from_utf8(json(text.as_bytes())).unwrap(), expected);
        }
    }
}
