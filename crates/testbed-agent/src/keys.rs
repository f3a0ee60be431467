//! Keys of a keyboard, by their names, and what must be pressed for a text.
//!
//! Names are those of QEMU's `QKeyCode`, or what people call the same. Texts are typed as on a keyboard of the United States.

use std::fmt;
use std::str::FromStr;

/// Keys that are pressed together, one after the other, and let go the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chord(Vec<&'static str>);

/// The most keys of a chord.
const MOST: usize = 8;

/// Names, and what else the same keys are called.
const NAMES: &[(&str, &[&str])] = &[
    ("shift", &[]),
    ("shift_r", &[]),
    ("ctrl", &["control"]),
    ("ctrl_r", &[]),
    ("alt", &[]),
    ("alt_r", &["altgr"]),
    ("meta_l", &["meta", "super", "win"]),
    ("meta_r", &[]),
    ("menu", &[]),
    ("ret", &["enter", "return"]),
    ("esc", &["escape"]),
    ("tab", &[]),
    ("spc", &["space"]),
    ("backspace", &[]),
    ("insert", &["ins"]),
    ("delete", &["del"]),
    ("home", &[]),
    ("end", &[]),
    ("pgup", &["pageup"]),
    ("pgdn", &["pagedown"]),
    ("up", &[]),
    ("down", &[]),
    ("left", &[]),
    ("right", &[]),
    ("caps_lock", &[]),
    ("num_lock", &[]),
    ("scroll_lock", &[]),
    ("sysrq", &[]),
    ("print", &[]),
    ("pause", &[]),
    ("minus", &[]),
    ("equal", &[]),
    ("bracket_left", &[]),
    ("bracket_right", &[]),
    ("semicolon", &[]),
    ("apostrophe", &[]),
    ("grave_accent", &[]),
    ("backslash", &[]),
    ("comma", &[]),
    ("dot", &[]),
    ("slash", &[]),
    ("less", &[]),
    ("f1", &[]),
    ("f2", &[]),
    ("f3", &[]),
    ("f4", &[]),
    ("f5", &[]),
    ("f6", &[]),
    ("f7", &[]),
    ("f8", &[]),
    ("f9", &[]),
    ("f10", &[]),
    ("f11", &[]),
    ("f12", &[]),
    ("kp_add", &[]),
    ("kp_subtract", &[]),
    ("kp_multiply", &[]),
    ("kp_divide", &[]),
    ("kp_enter", &[]),
    ("kp_decimal", &[]),
    ("kp_0", &[]),
    ("kp_1", &[]),
    ("kp_2", &[]),
    ("kp_3", &[]),
    ("kp_4", &[]),
    ("kp_5", &[]),
    ("kp_6", &[]),
    ("kp_7", &[]),
    ("kp_8", &[]),
    ("kp_9", &[]),
    ("0", &[]),
    ("1", &[]),
    ("2", &[]),
    ("3", &[]),
    ("4", &[]),
    ("5", &[]),
    ("6", &[]),
    ("7", &[]),
    ("8", &[]),
    ("9", &[]),
    ("a", &[]),
    ("b", &[]),
    ("c", &[]),
    ("d", &[]),
    ("e", &[]),
    ("f", &[]),
    ("g", &[]),
    ("h", &[]),
    ("i", &[]),
    ("j", &[]),
    ("k", &[]),
    ("l", &[]),
    ("m", &[]),
    ("n", &[]),
    ("o", &[]),
    ("p", &[]),
    ("q", &[]),
    ("r", &[]),
    ("s", &[]),
    ("t", &[]),
    ("u", &[]),
    ("v", &[]),
    ("w", &[]),
    ("x", &[]),
    ("y", &[]),
    ("z", &[]),
];

/// What a key types alone, and with shift.
const TYPED: &[(&str, char, char)] = &[
    ("grave_accent", '`', '~'),
    ("1", '1', '!'),
    ("2", '2', '@'),
    ("3", '3', '#'),
    ("4", '4', '$'),
    ("5", '5', '%'),
    ("6", '6', '^'),
    ("7", '7', '&'),
    ("8", '8', '*'),
    ("9", '9', '('),
    ("0", '0', ')'),
    ("minus", '-', '_'),
    ("equal", '=', '+'),
    ("bracket_left", '[', '{'),
    ("bracket_right", ']', '}'),
    ("backslash", '\\', '|'),
    ("semicolon", ';', ':'),
    ("apostrophe", '\'', '"'),
    ("comma", ',', '<'),
    ("dot", '.', '>'),
    ("slash", '/', '?'),
];

/// What no key is called, or types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No key has this name.
    Name(String),
    /// A chord has too many keys.
    TooMany,
    /// No key types this.
    Character(char),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Name(name) => write!(f, "no key is called `{}`", name.escape_default()),
            Unknown::TooMany => write!(f, "more than {MOST} keys are not pressed at once"),
            Unknown::Character(character) => {
                write!(f, "no key types `{}`", character.escape_default())
            }
        }
    }
}

impl Unknown {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Unknown::Name(_) | Unknown::TooMany => {
                "write `ret`, `f2`, `ctrl-alt-delete`, `shift-a`: names are those of QEMU's QKeyCode"
            }
            Unknown::Character(_) => "texts are typed as on a keyboard of the United States",
        }
    }
}

impl Chord {
    /// Keys by their names, with `-` between: `ctrl-alt-f2`.
    ///
    /// # Errors
    /// The first that is not known.
    pub fn parse(text: &str) -> Result<Chord, Unknown> {
        let keys = text.split('-').map(|name| {
            let wanted = name.to_ascii_lowercase();
            let found = NAMES.iter().find(|(name, others)| *name == wanted || others.contains(&&*wanted));
            found.map(|(name, _)| *name).ok_or_else(|| Unknown::Name(name.to_owned()))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.len() > MOST { Err(Unknown::TooMany) } else { Ok(Chord(keys)) }
    }

    /// What must be pressed for a character.
    ///
    /// # Errors
    /// When no key types it.
    pub fn of(character: char) -> Result<Chord, Unknown> {
        let named = |wanted: &str| NAMES.iter().map(|(name, _)| *name).find(|name| *name == wanted);
        let (key, shifted) = match character {
            '\n' | '\r' => (Some("ret"), false),
            '\t' => (Some("tab"), false),
            '\u{1b}' => (Some("esc"), false),
            ' ' => (Some("spc"), false),
            'a'..='z' | 'A'..='Z' => {
                let letter = character.to_ascii_lowercase();
                (named(letter.encode_utf8(&mut [0; 4])), character.is_ascii_uppercase())
            }
            _ => {
                let found = TYPED.iter().find(|(_, alone, shifted)| [*alone, *shifted].contains(&character));
                (found.map(|(key, ..)| *key), found.is_some_and(|(.., shifted)| *shifted == character))
            }
        };
        let key = key.ok_or(Unknown::Character(character))?;
        Ok(Chord(if shifted { vec!["shift", key] } else { vec![key] }))
    }

    /// The names of the keys, as QEMU has them.
    pub fn keys(&self) -> &[&'static str] {
        &self.0
    }
}

impl std::error::Error for Unknown {}

impl FromStr for Chord {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Chord, Unknown> {
        Chord::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chords_are_keys_by_any_of_their_names() {
        assert_eq!(Chord::parse("Ctrl-alt-F2").unwrap().keys(), ["ctrl", "alt", "f2"]);
        assert_eq!(Chord::parse("enter"), Chord::of('\n'));
        assert_eq!(Chord::parse("shift-a"), Chord::of('A'));
        assert_eq!(Chord::parse("f13"), Err(Unknown::Name("f13".into())));
        assert_eq!(Chord::parse("ctrl-"), Err(Unknown::Name(String::new())));
        assert_eq!(Chord::parse(&["a"; 9].join("-")), Err(Unknown::TooMany));
    }

    #[test]
    fn every_printable_character_of_ascii_is_typed_in_its_own_way() {
        let all: Vec<Vec<&str>> =
            (' '..='~').map(|character| Chord::of(character).unwrap().keys().to_vec()).collect();
        for (number, chord) in all.iter().enumerate() {
            assert!(!all[..number].contains(chord), "{chord:?}");
            let keys = chord.iter().filter(|key| Chord::parse(key).is_err());
            assert_eq!(keys.count(), 0, "{chord:?}");
        }
        assert_eq!(Chord::of('%').unwrap().keys(), ["shift", "5"]);
        assert_eq!(Chord::of('ß'), Err(Unknown::Character('ß')));
    }
}
