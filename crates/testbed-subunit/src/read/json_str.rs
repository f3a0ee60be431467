use std::borrow::Cow;
use std::ops::Deref;

use serde::Deserialize;

/// A string of JSON that borrows from the line where it stands there without escapes.
///
/// serde does that for a field of [`Cow`], but not for one of `Option<Cow>`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JsonStr<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for JsonStr<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_escaped_is_copied() {
        let line = r#"["plain", "a \n", null]"#;
        let [plain, escaped, none]: [Option<JsonStr<'_>>; 3] = serde_json::from_str(line).unwrap();
        assert!(matches!(plain, Some(JsonStr(Cow::Borrowed("plain")))));
        assert!(matches!(escaped, Some(JsonStr(Cow::Owned(_)))));
        assert!(none.is_none());
    }
}
