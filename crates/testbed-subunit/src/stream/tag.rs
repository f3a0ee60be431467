use std::collections::BTreeSet;

use super::Sink;
use crate::event::{Draft, EventError, EventRef, Tags};

/// Adds tags to every event, and takes others away.
///
/// A tag that is both added and taken away is taken away, as testtools has it.
#[derive(Clone, Debug)]
pub struct Tagger<S> {
    add: BTreeSet<Box<str>>,
    discard: BTreeSet<Box<str>>,
    sink: S,
}

/// Tags of an event that are put together without allocating.
const FEW: usize = 16;

impl<S> Tagger<S> {
    /// Adds the tags `add` to each event on its way to `sink`, and takes `discard` away.
    ///
    /// # Errors
    /// Where one of `add` cannot be a tag.
    pub fn new<T: AsRef<str>>(add: &[T], discard: &[T], sink: S) -> Result<Self, EventError> {
        let set = |tags: &[T]| tags.iter().map(|tag| Box::from(tag.as_ref())).collect::<BTreeSet<_>>();
        let (mut add, discard) = (set(add), set(discard));
        add.retain(|tag| !discard.contains(tag));
        Draft::new().tags(&add).check()?;
        Ok(Self { add, discard, sink })
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<S: Sink> Sink for Tagger<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let Self { add, discard, sink } = self;
        let kept = event.tags().into_iter().filter(|&tag| !discard.contains(tag) && !add.contains(tag));
        let added = add.iter().map(|tag| &**tag);
        let tags = kept.chain(added);
        let most = event.tags().len() + add.len();
        if most > FEW {
            let tags: Vec<&str> = tags.collect();
            return event.draft().tags(&tags).send(sink);
        }
        let mut few = [""; FEW];
        let mut count = 0;
        for (place, tag) in few.iter_mut().zip(tags) {
            *place = tag;
            count += 1;
        }
        event.draft().tags(Tags::from(&few[..count])).send(sink)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Field;
    use crate::{Event, Status};

    fn tagged(add: &[&str], discard: &[&str], tags: &[&str]) -> Vec<Event> {
        let mut tagger = Tagger::new(add, discard, Vec::new()).unwrap();
        Draft::test("t", Status::Exists).tags(tags).send(&mut tagger).unwrap();
        tagger.into_inner()
    }

    #[test]
    fn added_and_taken_away() {
        let seen = tagged(&["new", "both"], &["old", "both"], &["old", "kept", "both"]);
        assert_eq!(seen[0].as_ref().tags().iter().collect::<Vec<_>>(), ["kept", "new"]);
        assert!(tagged(&[], &["old"], &["old"])[0].as_ref().tags().is_empty());
        let many: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(tagged(&["00", "99"], &[], &many)[0].as_ref().tags().len(), 41);
    }

    #[test]
    fn an_event_that_gets_too_long_becomes_two() {
        let bytes = vec![7; crate::v2::MAX_PACKET - 20];
        let mut tagger = Tagger::new(&["a-tag-of-some-length"], &[], Vec::new()).unwrap();
        tagger.event(Draft::test("t", Status::Fail).file("f", &bytes).eof(true).check().unwrap()).unwrap();
        let seen = tagger.into_inner();
        let statuses: Vec<_> =
            seen.iter().map(|event| (event.as_ref().status(), event.as_ref().eof())).collect();
        assert_eq!(statuses, [(None, false), (Some(Status::Fail), true)]);
        assert_eq!(
            seen.iter().map(|event| event.as_ref().file().unwrap().bytes.len()).sum::<usize>(),
            bytes.len()
        );
    }

    #[test]
    fn what_is_no_tag() {
        let error = Tagger::new(&["a\0"], &[], Vec::<Event>::new()).unwrap_err();
        assert_eq!(error, EventError::Nul { field: Field::Tag });
    }
}
