//! As much of XML as reports need, from bytes that come in any pieces.

use std::borrow::Cow;

/// What a document is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token<'a> {
    /// `<name attribute="value">`; `empty` where it ends in `/>`.
    Open { name: &'a str, attributes: Vec<(&'a str, Cow<'a, str>)>, empty: bool },
    /// `</name>`.
    Close(&'a str),
    /// The next bytes of the text between two tags.
    Text(&'a [u8]),
    /// What looked like a tag.
    Broken(&'a [u8]),
}

/// The most bytes of a tag.
const TAG_MAX: usize = 1024 * 1024;

/// The most bytes of text in one token.
const PIECE: usize = 64 * 1024;

/// Longer references are none: `&#x10FFFF;`.
const REFERENCE_MAX: usize = 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Markup {
    state: State,
    /// What has come of the tag or the reference at hand.
    begun: Vec<u8>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Text,
    Reference,
    /// In a tag, and in this quote.
    Tag(Option<u8>),
    /// Behind so many hyphens.
    Comment(u8),
    /// Behind so many brackets.
    Cdata(usize),
    /// `<?…?>`, behind a question mark.
    Instruction(bool),
    /// `<!DOCTYPE …>`, in so many brackets, and in this quote.
    Declaration(u32, Option<u8>),
}

impl Markup {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Token<'_>)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Text => {
                    let length = memchr::memchr2(b'<', b'&', bytes).unwrap_or(bytes.len());
                    let (text, from) = bytes.split_at(length);
                    self.push_text(text, &mut each);
                    bytes = from;
                    if let Some((&byte, rest)) = from.split_first() {
                        self.begin(byte);
                        bytes = rest;
                    }
                    continue;
                }
                State::Reference => {
                    if !self.reference(byte, &mut each) {
                        continue;
                    }
                }
                State::Tag(quote) => self.tag(byte, quote, &mut each),
                State::Comment(hyphens) => {
                    self.state = match (byte, hyphens) {
                        (b'>', 2) => State::Text,
                        (b'-', _) => State::Comment(2.min(hyphens + 1)),
                        _ => State::Comment(0),
                    };
                }
                State::Cdata(brackets) => self.cdata(byte, brackets, &mut each),
                State::Instruction(mark) => {
                    self.state =
                        if mark && byte == b'>' { State::Text } else { State::Instruction(byte == b'?') };
                }
                State::Declaration(depth, quote) => self.state = declaration(byte, depth, quote),
            }
            bytes = rest;
        }
    }

    /// The document has ended.
    pub(super) fn finish(&mut self, mut each: impl FnMut(Token<'_>)) {
        if let State::Cdata(brackets) = self.state {
            self.push_text(&b"]]"[..brackets.min(2)], &mut each);
        }
        self.end_text(&mut each);
        if !self.begun.is_empty() {
            each(Token::Broken(&self.begun));
        }
        *self = Self::default();
    }

    fn begin(&mut self, byte: u8) {
        self.begun.clear();
        self.begun.push(byte);
        self.state = if byte == b'<' { State::Tag(None) } else { State::Reference };
    }

    fn push_text(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Token<'_>)) {
        while self.text.len() + bytes.len() >= PIECE {
            let (now, later) = bytes.split_at(PIECE - self.text.len());
            self.text.extend_from_slice(now);
            each(Token::Text(&self.text));
            self.text.clear();
            bytes = later;
        }
        self.text.extend_from_slice(bytes);
    }

    fn end_text(&mut self, each: &mut impl FnMut(Token<'_>)) {
        if !self.text.is_empty() {
            each(Token::Text(&self.text));
            self.text.clear();
        }
    }

    /// Takes a byte of `&…;`. False where it belongs to none, and is to be looked at again.
    fn reference(&mut self, byte: u8, each: &mut impl FnMut(Token<'_>)) -> bool {
        let belongs = byte == b';' || byte == b'#' || byte.is_ascii_alphanumeric();
        if !belongs || self.begun.len() > REFERENCE_MAX {
            let begun = std::mem::take(&mut self.begun);
            self.push_text(&begun, each);
            self.state = State::Text;
            return false;
        }
        self.begun.push(byte);
        if byte == b';' {
            let begun = std::mem::take(&mut self.begun);
            let text = String::from_utf8_lossy(&begun);
            self.push_text(resolved(&text).as_bytes(), each);
            self.state = State::Text;
        }
        true
    }

    fn tag(&mut self, byte: u8, quote: Option<u8>, each: &mut impl FnMut(Token<'_>)) {
        if (byte == b'<' && quote.is_none()) || self.begun.len() >= TAG_MAX {
            self.end_text(each);
            each(Token::Broken(&self.begun));
            self.begun = Vec::new();
            self.state = State::Text;
            return if byte == b'<' { self.begin(byte) } else { self.push_text(&[byte], each) };
        }
        self.begun.push(byte);
        self.state = match (quote, byte) {
            (Some(open), _) if open == byte => State::Tag(None),
            (Some(_), _) => State::Tag(quote),
            (None, b'"' | b'\'') => State::Tag(Some(byte)),
            (None, b'>') => {
                self.end_text(each);
                each(token(&self.begun).unwrap_or(Token::Broken(&self.begun)));
                State::Text
            }
            (None, _) => self.kind(),
        };
        if !matches!(self.state, State::Tag(_)) {
            self.begun.clear();
        }
    }

    /// What has begun, as far as that can be told.
    fn kind(&self) -> State {
        match &*self.begun {
            b"<?" => State::Instruction(false),
            b"<!--" => State::Comment(0),
            b"<![CDATA[" => State::Cdata(0),
            begun if b"<!--".starts_with(begun) || b"<![CDATA[".starts_with(begun) => State::Tag(None),
            begun if begun.starts_with(b"<!") => State::Declaration(0, None),
            _ => State::Tag(None),
        }
    }

    fn cdata(&mut self, byte: u8, brackets: usize, each: &mut impl FnMut(Token<'_>)) {
        self.state = match byte {
            b'>' if brackets == 2 => State::Text,
            b']' if brackets == 2 => {
                self.push_text(b"]", each);
                State::Cdata(2)
            }
            b']' => State::Cdata(brackets + 1),
            _ => {
                self.push_text(&b"]]"[..brackets], each);
                self.push_text(&[byte], each);
                State::Cdata(0)
            }
        };
    }
}

fn declaration(byte: u8, depth: u32, quote: Option<u8>) -> State {
    match (quote, byte) {
        (Some(open), _) if open == byte => State::Declaration(depth, None),
        (Some(_), _) => State::Declaration(depth, quote),
        (None, b'"' | b'\'') => State::Declaration(depth, Some(byte)),
        (None, b'[') => State::Declaration(depth.saturating_add(1), None),
        (None, b']') => State::Declaration(depth.saturating_sub(1), None),
        (None, b'>') if depth == 0 => State::Text,
        (None, _) => State::Declaration(depth, None),
    }
}

/// A tag, from `<` to `>`. `None` where it is none.
fn token(tag: &[u8]) -> Option<Token<'_>> {
    let tag = std::str::from_utf8(tag).ok()?;
    let inner = tag.strip_prefix('<')?.strip_suffix('>')?;
    if let Some(name) = inner.strip_prefix('/') {
        return Some(Token::Close(local(name.trim())?));
    }
    let (inner, empty) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
    let end = inner.find(|c: char| c.is_ascii_whitespace()).unwrap_or(inner.len());
    let (name, mut rest) = inner.split_at(end);
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        let (attribute, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let quote = behind.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, behind) = behind[1..].split_once(quote)?;
        attributes.push((local(attribute.trim())?, unescaped(value)));
        rest = behind;
    }
    Some(Token::Open { name: local(name)?, attributes, empty })
}

/// A name without its namespace.
fn local(name: &str) -> Option<&str> {
    let name = name.rsplit(':').next().unwrap_or(name);
    let is_name =
        !name.is_empty() && !name.contains(|c: char| c.is_ascii_whitespace() || "<>\"'&/=".contains(c));
    is_name.then_some(name)
}

fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('&') {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(';').filter(|end| *end <= REFERENCE_MAX).map_or(1, |end| end + 1);
        text.push_str(&resolved(&rest[..end]));
        rest = &rest[end..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character that `&…;` stands for, and the reference itself where that is not known.
fn resolved(reference: &str) -> Cow<'_, str> {
    let inner = reference.strip_prefix('&').and_then(|rest| rest.strip_suffix(';')).unwrap_or_default();
    Cow::Borrowed(match inner {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => {
            let code = match inner.strip_prefix("#x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => inner.strip_prefix('#').and_then(|digits| digits.parse().ok()),
            };
            return match code.and_then(char::from_u32) {
                Some(char) => Cow::Owned(char.to_string()),
                None => Cow::Borrowed(reference),
            };
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(document: &str) -> Vec<String> {
        let read = |size: usize| {
            let mut seen = Vec::new();
            let mut each = |token: Token<'_>| {
                seen.push(match token {
                    Token::Text(bytes) => format!("text {}", String::from_utf8_lossy(bytes)),
                    Token::Broken(bytes) => format!("broken {}", String::from_utf8_lossy(bytes)),
                    Token::Close(name) => format!("close {name}"),
                    Token::Open { name, attributes, empty } => format!("open {name} {attributes:?} {empty}"),
                });
            };
            let mut markup = Markup::default();
            document.as_bytes().chunks(size).for_each(|piece| markup.feed(piece, &mut each));
            markup.finish(&mut each);
            seen
        };
        let whole = read(document.len().max(1));
        for size in 1..8 {
            assert_eq!(read(size), whole, "{document} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn tags_and_text() {
        assert_eq!(
            shown(
                "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b \">\">]><a x:b = 'c>&lt;' d=\"&#65;&#x42;\"><e/>t&amp;u</a >"
            ),
            ["open a [(\"b\", \"c><\"), (\"d\", \"AB\")] false", "open e [] true", "text t&u", "close a"]
        );
        assert_eq!(shown("<!-- <a> -- --->x<![CDATA[<b>]]]]>y"), ["text x<b>]]y"]);
        assert_eq!(
            shown("a & b &nbsp; &#xD800; &loooooooooooong;"),
            ["text a & b &nbsp; &#xD800; &loooooooooooong;"]
        );
    }

    #[test]
    fn what_is_broken() {
        assert_eq!(shown("<a <b>"), ["broken <a ", "open b [] false"]);
        assert_eq!(shown("<a b>x<c d="), ["broken <a b>", "text x", "broken <c d="]);
        assert_eq!(shown("x<![CDATA[y]"), ["text xy]"]);
        assert_eq!(shown("1 < 2 & 3 > 2"), ["text 1 ", "broken < 2 & 3 >", "text  2"]);
        assert_eq!(shown("<"), ["broken <"]);
        assert_eq!(shown("&am"), ["broken &am"]);
    }
}
