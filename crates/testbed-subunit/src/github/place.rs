//! Where a test failed, as far as its output tells.

use crate::record::Record;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) line: u32,
}

/// What files of programs end in. Without a list, `example.org:8080` would be one.
const SOURCES: &[&str] = &[
    "bats", "c", "cc", "cjs", "cpp", "cs", "cxx", "dart", "erl", "ex", "exs", "go", "h", "hpp", "hs", "java",
    "jl", "js", "jsx", "kt", "lua", "m", "mjs", "ml", "mm", "php", "pl", "pm", "py", "pyx", "rb", "rs",
    "scala", "sh", "swift", "t", "toml", "ts", "tsx", "vue", "yaml", "yml", "zig",
];

pub(super) fn of(record: &Record) -> Option<Place> {
    let text = |name| record.attachment(name).map(|attachment| attachment.kept.to_vec());
    if let Some(bytes) = text("location") {
        let location = String::from_utf8_lossy(&bytes);
        let (path, line) = location.trim().rsplit_once(':')?;
        return Some(Place { path: path.to_owned(), line: line.parse().ok()? });
    }
    ["traceback", "stdout", "stderr"].into_iter().filter_map(text).find_map(|bytes| in_text(&bytes))
}

fn in_text(bytes: &[u8]) -> Option<Place> {
    let text = String::from_utf8_lossy(bytes);
    let mut of_python = text.lines().filter_map(|line| {
        let (path, rest) = line.trim().strip_prefix("File \"")?.split_once("\", line ")?;
        Some(Place { path: path.to_owned(), line: number(rest)? })
    });
    of_python.next_back().or_else(|| text.split([' ', '\n', '\t', '(', '\'', '"']).find_map(word))
}

/// `path.ext:3`, and whatever follows.
fn word(word: &str) -> Option<Place> {
    let (path, rest) = word.split_once(':')?;
    let (stem, extension) = path.rsplit_once('.')?;
    let is_file = !stem.is_empty() && SOURCES.contains(&extension);
    is_file.then_some(Place { path: path.to_owned(), line: number(rest)? })
}

fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_what_tools_print() {
        let found =
            |text: &str| in_text(text.as_bytes()).map(|place| format!("{} {}", place.path, place.line));
        for (text, expected) in [
            ("thread 'a' panicked at src/lib.rs:20:70:\nno", Some("src/lib.rs 20")),
            ("  File \"a.py\", line 3, in f\n  File \"b.py\", line 40\nAssertionError", Some("b.py 40")),
            ("    vpn_test.go:4: no answer", Some("vpn_test.go 4")),
            ("\tat com.T.m(T.java:12)", Some("T.java 12")),
            ("connected to 10.0.0.1:8080", None),
            ("connected to example.org:8080", None),
            ("at 12:30:01.5: late", None),
            ("a.rs:x", None),
        ] {
            assert_eq!(found(text).as_deref(), expected, "{text}");
        }
    }
}
