use super::Sink;
use crate::event::EventRef;

/// Gives each event to several sinks, in their order.
///
/// For sinks of different types, `S` is `Box<dyn Sink<Error = E>>`. A sink that fails keeps none of the others from
/// the event; the first error is returned.
#[derive(Clone, Debug, Default)]
pub struct Tee<S>(pub Vec<S>);

impl<S: Sink> Tee<S> {
    fn all(&mut self, mut call: impl FnMut(&mut S) -> Result<(), S::Error>) -> Result<(), S::Error> {
        let mut first = Ok(());
        for sink in &mut self.0 {
            first = first.and(call(sink));
        }
        first
    }
}

impl<S: Sink> Sink for Tee<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        self.all(|sink| sink.event(event))
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.all(Sink::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Each;
    use crate::{Draft, EventError};

    #[test]
    fn one_that_fails_keeps_none_of_the_others_from_the_event() {
        let calls = std::cell::RefCell::new(Vec::new());
        let sink = |name: &'static str, result: Result<(), EventError>| {
            let calls = &calls;
            Each(move |_: EventRef<'_>| {
                calls.borrow_mut().push(name);
                result
            })
        };
        let error = EventError::TooLong { length: 1 };
        let later = EventError::TooLong { length: 2 };
        let mut tee = Tee(vec![sink("a", Ok(())), sink("b", Err(error)), sink("c", Err(later))]);
        assert_eq!(tee.event(Draft::new().check().unwrap()), Err(error));
        assert_eq!(*calls.borrow(), ["a", "b", "c"]);
    }
}
