//! JSON (RFC 8259), as far as it is written here.

use std::fmt::Write as _;

/// A text in quotes.
pub(super) fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() && (c as u32) < 0x20 => drop(write!(quoted, "\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Names and values, which are JSON already.
pub(super) fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}: {value}", text(name))).collect();
    format!("{{{}}}", members.join(", "))
}

/// A long array or object that is written piece by piece, one member a line.
pub(super) struct Pieces {
    ends: (char, char),
    begun: bool,
}

impl Pieces {
    pub(super) fn array() -> Pieces {
        Pieces { ends: ('[', ']'), begun: false }
    }

    pub(super) fn object() -> Pieces {
        Pieces { ends: ('{', '}'), begun: false }
    }

    /// What comes before a member, and the member.
    pub(super) fn member(&mut self, member: &str) -> String {
        let before = if self.begun { ",".to_owned() } else { self.ends.0.to_string() };
        self.begun = true;
        format!("{before}\n  {member}")
    }

    pub(super) fn end(self) -> String {
        if self.begun { format!("\n{}\n", self.ends.1) } else { format!("{}{}\n", self.ends.0, self.ends.1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted() {
        assert_eq!(text("a\"b\\c\n\u{1}é"), r#""a\"b\\c\u000a\u0001é""#);
        assert_eq!(object(&[("a b", "1".into()), ("c", text("d"))]), r#"{"a b": 1, "c": "d"}"#);
    }

    #[test]
    fn pieces_are_one_document() {
        let mut pieces = Pieces::array();
        let text = pieces.member("1") + &pieces.member("2") + &pieces.end();
        assert_eq!(text, "[\n  1,\n  2\n]\n");
        assert_eq!(Pieces::object().end(), "{}\n");
    }
}
