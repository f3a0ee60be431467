use std::collections::BTreeSet;
use std::fmt;

use crate::v2;

/// The tags of an event: a set of strings, borrowed from wherever they are.
///
/// Iterating yields them as written, repetitions included; comparing ignores order and repetition.
#[derive(Clone, Copy, Default)]
pub struct Tags<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Slice(&'a [&'a str]),
    Set(&'a BTreeSet<Box<str>>),
    /// The tags of a packet whose strings have been checked, as they stand there.
    Packet {
        count: usize,
        bytes: &'a [u8],
        shortest: bool,
    },
}

impl Default for Source<'_> {
    fn default() -> Self {
        Self::Slice(&[])
    }
}

impl<'a> Tags<'a> {
    /// `count` strings as they stand in a packet, and whether their lengths are written as short as can be. The
    /// caller has checked each.
    pub(crate) fn in_packet(count: usize, bytes: &'a [u8], shortest: bool) -> Self {
        Self(Source::Packet { count, bytes, shortest })
    }

    /// The strings as they are to stand in a packet, where they already do.
    pub(crate) fn as_packet(&self) -> Option<&'a [u8]> {
        match self.0 {
            Source::Packet { bytes, shortest: true, .. } => Some(bytes),
            _ => None,
        }
    }

    /// How many there are, repetitions included.
    pub fn len(&self) -> usize {
        match self.0 {
            Source::Slice(tags) => tags.len(),
            Source::Set(tags) => tags.len(),
            Source::Packet { count, .. } => count,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `tag` is one of them.
    pub fn contains(&self, tag: &str) -> bool {
        self.iter().any(|one| one == tag)
    }

    /// Each tag as written.
    pub fn iter(&self) -> TagsIter<'a> {
        TagsIter(match self.0 {
            Source::Slice(tags) => Iter::Slice(tags.iter()),
            Source::Set(tags) => Iter::Set(tags.iter()),
            Source::Packet { bytes, .. } => Iter::Packet(bytes),
        })
    }
}

impl<'a> IntoIterator for Tags<'a> {
    type Item = &'a str;
    type IntoIter = TagsIter<'a>;

    fn into_iter(self) -> TagsIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl PartialEq for Tags<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.is_empty() || other.is_empty() {
            return self.is_empty() == other.is_empty();
        }
        self.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
    }
}

impl Eq for Tags<'_> {}

impl<'a> From<&'a [&'a str]> for Tags<'a> {
    fn from(tags: &'a [&'a str]) -> Self {
        Self(Source::Slice(tags))
    }
}

impl<'a> From<&'a Vec<&'a str>> for Tags<'a> {
    fn from(tags: &'a Vec<&'a str>) -> Self {
        Self(Source::Slice(tags))
    }
}

impl<'a, const N: usize> From<&'a [&'a str; N]> for Tags<'a> {
    fn from(tags: &'a [&'a str; N]) -> Self {
        Self(Source::Slice(tags))
    }
}

impl<'a> From<&'a BTreeSet<Box<str>>> for Tags<'a> {
    fn from(tags: &'a BTreeSet<Box<str>>) -> Self {
        Self(Source::Set(tags))
    }
}

/// The tags of an event, one after the other.
#[derive(Clone, Debug)]
pub struct TagsIter<'a>(Iter<'a>);

#[derive(Clone, Debug)]
enum Iter<'a> {
    Slice(std::slice::Iter<'a, &'a str>),
    Set(std::collections::btree_set::Iter<'a, Box<str>>),
    Packet(&'a [u8]),
}

impl<'a> Iterator for TagsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        match &mut self.0 {
            Iter::Slice(tags) => tags.next().copied(),
            Iter::Set(tags) => tags.next().map(AsRef::as_ref),
            // The packet's strings were checked when it was decoded, so only the end of the list ends this.
            Iter::Packet(rest) => v2::take_str(rest).ok(),
        }
    }
}
