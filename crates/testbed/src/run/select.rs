//! Which tests run.

use crate::spec::Test;
use thiserror::Error;

/// Chooses tests by name and by tag.
///
/// ```
/// let filter = testbed::run::Filter::new(["tunnel", "=ping"], ["slow", "!broken"])?;
/// # Ok::<(), testbed::run::BadFilter>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    names: Vec<Name>,
    tags: Vec<String>,
    without: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Part(String),
    Whole(String),
}

/// A filter that chooses nothing by its form.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadFilter {
    /// A name is empty.
    #[error("a filter by name is empty")]
    EmptyName,
    /// A tag is empty.
    #[error("a filter by tag is empty")]
    EmptyTag,
}

impl Filter {
    /// Takes tests whose id contains one of the names (`=NAME`: is that name), if there are any; that have one of the
    /// tags, if there are any; and none of the tags written `!TAG`.
    ///
    /// # Errors
    /// A name or tag is empty.
    pub fn new<N: AsRef<str>, T: AsRef<str>>(
        names: impl IntoIterator<Item = N>,
        tags: impl IntoIterator<Item = T>,
    ) -> Result<Filter, BadFilter> {
        let mut filter = Filter::default();
        for name in names {
            let (whole, name) = match name.as_ref().strip_prefix('=') {
                Some(rest) => (true, rest),
                None => (false, name.as_ref()),
            };
            if name.is_empty() {
                return Err(BadFilter::EmptyName);
            }
            filter.names.push(if whole { Name::Whole(name.into()) } else { Name::Part(name.into()) });
        }
        for tag in tags {
            let (list, tag) = match tag.as_ref().strip_prefix('!') {
                Some(rest) => (&mut filter.without, rest),
                None => (&mut filter.tags, tag.as_ref()),
            };
            if tag.is_empty() {
                return Err(BadFilter::EmptyTag);
            }
            list.push(tag.to_owned());
        }
        Ok(filter)
    }

    /// Whether it takes a test.
    pub fn takes(&self, test: &Test) -> bool {
        self.takes_parts(test.id(), test.tags())
    }

    fn takes_parts(&self, id: &str, tags: &[String]) -> bool {
        let named = |name: &Name| match name {
            Name::Part(part) => id.contains(part.as_str()),
            Name::Whole(whole) => id == whole,
        };
        (self.names.is_empty() || self.names.iter().any(named))
            && (self.tags.is_empty() || self.tags.iter().any(|tag| tags.contains(tag)))
            && !self.without.iter().any(|tag| tags.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(names: &[&str], tags: &[&str], id: &str, has: &[&str]) -> bool {
        let has: Vec<String> = has.iter().map(|&tag| tag.to_owned()).collect();
        Filter::new(names, tags).unwrap().takes_parts(id, &has)
    }

    #[test]
    fn names_are_alternatives_and_tags_narrow() {
        assert!(takes(&[], &[], "a", &[]));
        assert!(takes(&["x", "un"], &[], "tunnel", &[]));
        assert!(!takes(&["=un"], &[], "tunnel", &[]));
        assert!(takes(&["=tunnel"], &[], "tunnel", &[]));
        assert!(takes(&[], &["slow", "net"], "a", &["net"]));
        assert!(!takes(&["a"], &["slow"], "a", &["net"]));
        assert!(!takes(&[], &["net", "!slow"], "a", &["net", "slow"]));
        assert!(takes(&[], &["!slow"], "a", &[]));
    }

    #[test]
    fn empty_filters_are_refused() {
        assert_eq!(Filter::new(["="], [""; 0]), Err(BadFilter::EmptyName));
        assert_eq!(Filter::new([""; 0], ["!"]), Err(BadFilter::EmptyTag));
    }
}
