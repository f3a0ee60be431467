//! What a layer is called: the hash of all that went into it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};

/// Changes whenever the same inputs would give another layer than before.
const RECIPE: &str = "testbed layer 1";

/// The name of a layer: 64 hexadecimal digits, the SHA-256 of all its inputs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first digits: enough to tell layers apart for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is not the name of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a layer: 64 hexadecimal digits")]
pub struct NotAKey(pub(super) String);

impl TryFrom<String> for Key {
    type Error = NotAKey;

    fn try_from(text: String) -> Result<Key, NotAKey> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digit) { Ok(Key(text)) } else { Err(NotAKey(text)) }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0
    }
}

/// Collects the inputs of a layer. Each is told with its length, so that no two lists of inputs look alike.
pub(super) struct Inputs(Sha256);

impl Inputs {
    /// Begins with what kind of layer it is and the layer below.
    pub(super) fn of(kind: &str, below: Option<&Key>) -> Inputs {
        let mut inputs = Inputs(Sha256::new());
        inputs.add(RECIPE).add(kind).add(below.map_or("", Key::as_str));
        inputs
    }

    pub(super) fn add(&mut self, part: impl AsRef<[u8]>) -> &mut Inputs {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Inputs {
        self.add(number.to_le_bytes())
    }

    /// Adds all that a reader gives.
    pub(super) fn stream(&mut self, mut reader: impl Read) -> io::Result<&mut Inputs> {
        let mut content = Sha256::new();
        let mut buffer = [0_u8; 64 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => content.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.add(content.finalize()))
    }

    pub(super) fn key(self) -> Key {
        Key(hex(&self.0.finalize()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_inputs_never_run_together() {
        let key = |parts: &[&str]| {
            let mut inputs = Inputs::of("run", None);
            parts.iter().for_each(|part| {
                inputs.add(part);
            });
            inputs.key()
        };
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab", "c"]), key(&["abc"]));
        assert_ne!(Inputs::of("run", Some(&key(&[]))).key(), Inputs::of("run", None).key());
    }

    #[test]
    fn only_digests_are_keys() {
        assert!(Key::try_from("../../etc".to_owned()).is_err());
        assert!(Key::try_from("A".repeat(64)).is_err());
        let key = Inputs::of("run", None).key();
        assert_eq!(Key::try_from(key.to_string()), Ok(key));
    }
}
