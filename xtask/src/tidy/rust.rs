//! As much of Rust's grammar as is needed to tell code from comments, strings and tests.

use super::tree::Tree;
use std::collections::BTreeSet;

/// The text with comments, and what stands in strings and character literals, replaced by spaces. Lines and offsets
/// stay as they are.
pub(super) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => character_end(text, at),
            b'r' if !follows_word(bytes, at) => raw_string_end(bytes, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if end > at + 1 {
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end;
    }
    // Whole literals and comments became spaces, so what is left is cut at boundaries of characters.
    String::from_utf8_lossy(&code).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n)
}

fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `'x'`, `'\n'` or `'\''`; a lifetime is one byte of code.
fn character_end(text: &str, start: usize) -> usize {
    let rest = &text[start + 1..];
    let mut characters = rest.char_indices();
    match characters.next() {
        Some((_, '\\')) => {
            rest.get(2..).and_then(|r| r.find('\'')).map_or(start + 1, |n| start + 1 + 2 + n + 1)
        }
        Some((_, _)) => match characters.next() {
            Some((second, '\'')) => start + 1 + second + 1,
            _ => start + 1,
        },
        None => start + 1,
    }
}

fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|b| **b == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let length = bytes[open + 1..].windows(close.len()).position(|w| w == close);
    Some(length.map_or(bytes.len(), |n| open + 1 + n + close.len()))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What stands before belongs to the same word. The prefixes of literals, `b` and `c`, do not count.
fn follows_word(bytes: &[u8], at: usize) -> bool {
    match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b' | b'c') => at >= 2 && is_word(bytes[at - 2]),
        Some(byte) => is_word(byte),
        None => false,
    }
}

/// Where a word stands in code, as offsets. A word that begins or ends like an identifier stands alone there.
pub(super) fn find_words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (first, last) = (word.as_bytes()[0], word.as_bytes()[word.len() - 1]);
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).map(|n| code.as_bytes()[n]);
        let behind = code.as_bytes().get(at + word.len()).copied();
        let goes_on = is_word(last) && behind.is_some_and(is_word);
        let began = is_word(first) && before.is_some_and(is_word);
        !began && !goes_on
    })
}

/// The line of an offset, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count()
}

/// Code with everything behind `#[cfg(test)]` replaced by spaces, and the modules that stand in files of their own
/// behind one.
pub(super) fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut kept = code.as_bytes().to_vec();
    let mut modules = Vec::new();
    for (start, marker) in code.match_indices("#[cfg(test)]") {
        let after = start + marker.len();
        let item = &code[after..];
        let open = item.find('{').unwrap_or(item.len());
        let end = match item.find(';').filter(|semicolon| *semicolon < open) {
            Some(semicolon) => {
                if let Some((_, name)) = item[..semicolon].rsplit_once("mod ") {
                    modules.push(name.trim().to_owned());
                }
                after + semicolon + 1
            }
            None => after + block_end(item, open),
        };
        for byte in &mut kept[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    (String::from_utf8_lossy(&kept).into_owned(), modules)
}

fn block_end(item: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in item.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    item.len()
}

/// A Rust file of the repository.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    /// All of it but comments and literals.
    pub(super) code: String,
    /// That without tests: empty for a file that is a test.
    pub(super) product: String,
}

/// All Rust files.
pub(super) fn sources(tree: &Tree) -> Vec<Source<'_>> {
    let mut test_modules = BTreeSet::new();
    let mut sources = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".rs")) {
        let code = code_of(text);
        let (product, modules) = without_tests(&code);
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => path.trim_end_matches(".rs"),
        };
        test_modules.extend(modules.iter().map(|module| format!("{folder}/{module}")));
        sources.push(Source { path, code, product });
    }
    for source in &mut sources {
        let is_test_module = test_modules.iter().any(|module| {
            source
                .path
                .strip_prefix(module.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
        if is_test_module || is_test_file(source.path) {
            source.product.clear();
        }
    }
    sources
}

/// Files that cargo only builds for tests, benchmarks and examples.
pub(super) fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "examples" | "fuzz"))
}
