//! A name for a file system, of any text.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Names that mean something in the folder of a test, so that no attachment may have them.
pub(super) const ATTACHMENT: &[&str] = &["test.json"];

/// The most bytes of a name.
const LONGEST: usize = 120;

/// What is kept of a longer one.
const KEPT: usize = 60;

/// What Windows takes for a device, with any extension.
const DEVICES: &[&str] = &["aux", "con", "conin$", "conout$", "nul", "prn"];

/// The name that stands for `text`, and for no other text. It is none of `reserved`.
pub(super) fn component(text: &str, reserved: &[&str]) -> String {
    if text.is_empty() {
        return "~".to_owned();
    }
    let lower = text.to_ascii_lowercase();
    let stem = lower.split('.').next().unwrap_or_default().trim_end();
    let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    let is_device = DEVICES.contains(&stem) || port.is_some_and(|number| number.chars().count() == 1);
    let is_reserved = is_device || reserved.contains(&&*lower);
    let last = text.len() - 1;
    let mut name = String::with_capacity(text.len());
    let mut large = Large::default();
    for (at, byte) in text.bytes().enumerate() {
        let is_plain = match byte {
            b'.' => at != 0 && at != last,
            _ => byte.is_ascii_alphanumeric() || b"_-,=+@()[]".contains(&byte),
        };
        if is_plain && !(at == 0 && is_reserved) {
            name.push(byte.into());
            large.push(byte.is_ascii_uppercase());
        } else {
            // A string takes all that is written to it.
            let _ = write!(name, "%{byte:02x}");
        }
    }
    large.end(&mut name);
    if name.len() > LONGEST {
        name.truncate(KEPT);
        name.push_str("~h");
        for byte in &Sha256::digest(text.as_bytes())[..20] {
            let _ = write!(name, "{byte:02x}");
        }
    }
    name
}

/// Which of the letters that stand for themselves are large: a bit each, the first the lowest, four to a digit.
#[derive(Debug, Default)]
struct Large {
    digits: String,
    digit: u32,
    bits: u32,
    any: bool,
}

impl Large {
    fn push(&mut self, is_large: bool) {
        self.digit |= u32::from(is_large) << self.bits;
        self.any |= is_large;
        self.bits += 1;
        if self.bits == 4 {
            self.take();
        }
    }

    fn take(&mut self) {
        self.digits.extend(char::from_digit(self.digit, 16));
        (self.digit, self.bits) = (0, 0);
    }

    fn end(mut self, name: &mut String) {
        if self.any {
            self.take();
            name.push_str("~c");
            name.push_str(self.digits.trim_end_matches('0'));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (text, expected) in [
            ("vpn.ping", "vpn.ping"),
            ("", "~"),
            (".", "%2e"),
            ("..", "%2e%2e"),
            ("../a", "%2e.%2fa"),
            ("/etc", "%2fetc"),
            ("c:\\x", "c%3a%5cx"),
            ("a.", "a%2e"),
            ("a\0 b~%", "a%00%20b%7e%25"),
            ("\u{e9}", "%c3%a9"),
            ("Ab", "Ab~c1"),
            ("aBcdE", "aBcdE~c21"),
            ("con", "%63on"),
            ("CoN.txt", "%43oN.txt~c2"),
            ("com1", "%63om1"),
            ("common", "common"),
            ("console", "console"),
            ("nul .x", "%6eul%20.x"),
        ] {
            assert_eq!(component(text, &[]), expected, "{text}");
        }
        assert_eq!(component("test.json", ATTACHMENT), "%74est.json");
        assert_eq!(component("Test.json", ATTACHMENT), "%54est.json");
        let long = component(&"ab".repeat(100), &[]);
        assert_eq!(long.len(), KEPT + 2 + 40);
    }

    proptest! {
        #[test]
        fn safe_and_each_its_own(texts in prop::collection::vec("[abAB./~%c1]{0,6}|\\PC{0,200}|(con|NUL|Com1)[.a]{0,2}", 1..60)) {
            let mut seen = HashMap::new();
            for text in &texts {
                let name = component(text, ATTACHMENT);
                prop_assert!(name.len() <= LONGEST && !name.is_empty());
                prop_assert!(!name.starts_with('.') && !name.ends_with(['.', ' ']));
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.,=+@()[]~%".contains(&byte)));
                let other = seen.insert(name.to_ascii_lowercase(), text.clone());
                prop_assert!(other.as_ref().is_none_or(|other| other == text), "{other:?} and {text:?} are {name}");
            }
        }
    }
}
