use std::borrow::Cow;

use super::Sink;
use crate::event::{EventRef, Status};

/// Gives tests other ids.
#[derive(Clone, Debug)]
pub struct Rename<F, S> {
    name: F,
    sink: S,
}

impl<F: FnMut(&str) -> Cow<'_, str>, S> Rename<F, S> {
    /// Replaces each id by what `name` makes of it, on its way to `sink`.
    ///
    /// An event whose new id cannot be one is an error.
    pub fn new(name: F, sink: S) -> Self {
        Self { name, sink }
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<F: FnMut(&str) -> Cow<'_, str>, S: Sink> Sink for Rename<F, S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let Some(id) = event.id() else { return self.sink.event(event) };
        match (self.name)(id) {
            Cow::Borrowed(same) if same == id => self.sink.event(event),
            other => event.draft().id(&*other).send(&mut self.sink),
        }
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

/// Turns failures that are known into expected ones, and the success of such a test into an unexpected one.
#[derive(Clone, Debug)]
pub struct ExpectFailures<F, S> {
    known: F,
    sink: S,
}

impl<F: FnMut(&str) -> bool, S> ExpectFailures<F, S> {
    /// Expects the tests to fail whose ids are `known`, on their way to `sink`.
    pub fn new(known: F, sink: S) -> Self {
        Self { known, sink }
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<F: FnMut(&str) -> bool, S: Sink> Sink for ExpectFailures<F, S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        let other = match event.status() {
            Some(Status::Fail) => Status::XFail,
            Some(Status::Success) => Status::UxSuccess,
            _ => return self.sink.event(event),
        };
        if event.id().is_some_and(&mut self.known) {
            event.draft().status(other).send(&mut self.sink)
        } else {
            self.sink.event(event)
        }
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Field;
    use crate::{Draft, Event, EventError};

    #[test]
    fn renamed() {
        fn name(id: &str) -> Cow<'_, str> {
            match id {
                "same" => Cow::Borrowed(id),
                "cut.it" => Cow::Borrowed(&id[4..]),
                "bad" => Cow::Borrowed("\0"),
                id => Cow::Owned(format!("new.{id}")),
            }
        }
        let mut stream = Rename::new(name, Vec::<Event>::new());
        for id in ["same", "cut.it", "other"] {
            Draft::test(id, Status::Exists).send(&mut stream).unwrap();
        }
        Draft::output("f", b"").send(&mut stream).unwrap();
        let error = Draft::test("bad", Status::Exists).send(&mut stream).unwrap_err();
        assert_eq!(error, EventError::Nul { field: Field::Id });
        let seen = stream.into_inner();
        let ids: Vec<_> = seen.iter().map(|event| event.as_ref().id()).collect();
        assert_eq!(ids, [Some("same"), Some("it"), Some("new.other"), None]);
    }

    #[test]
    fn known_failures() {
        let mut stream = ExpectFailures::new(|id: &str| id == "known", Vec::<Event>::new());
        for status in [Status::InProgress, Status::Fail, Status::Success, Status::Skip] {
            Draft::test("known", status).send(&mut stream).unwrap();
            Draft::test("other", status).send(&mut stream).unwrap();
        }
        let seen = stream.into_inner();
        let of = |id| {
            let events = seen.iter().map(Event::as_ref).filter(move |event| event.id() == Some(id));
            events.filter_map(|event| event.status()).collect::<Vec<_>>()
        };
        assert_eq!(of("known"), [Status::InProgress, Status::XFail, Status::UxSuccess, Status::Skip]);
        assert_eq!(of("other"), [Status::InProgress, Status::Fail, Status::Success, Status::Skip]);
    }
}
