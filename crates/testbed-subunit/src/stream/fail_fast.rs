use super::Sink;
use crate::event::{EventRef, Status};

/// Calls a function when so many failures have been seen: [`Status::Fail`] and [`Status::UxSuccess`].
///
/// All events are passed on, those behind the failure too: what is being stopped still has something to say.
#[derive(Clone, Debug)]
pub struct FailFast<F, S> {
    left: u64,
    stop: F,
    sink: S,
}

impl<F: FnMut(EventRef<'_>), S> FailFast<F, S> {
    /// Calls `stop` once, with the event that is the failure number `limit`, before that goes on to `sink`.
    pub fn new(limit: u64, stop: F, sink: S) -> Self {
        Self { left: limit, stop, sink }
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<F: FnMut(EventRef<'_>), S: Sink> Sink for FailFast<F, S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        if self.left > 0 && event.status().is_some_and(Status::is_failure) {
            self.left -= 1;
            if self.left == 0 {
                (self.stop)(event);
            }
        }
        self.sink.event(event)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, Event};

    #[test]
    fn at_the_second_failure_and_once() {
        let mut stopped = Vec::new();
        let stop = |event: EventRef<'_>| stopped.push(event.id().map(str::to_owned));
        let mut stream = FailFast::new(2, stop, Vec::<Event>::new());
        for status in [Status::Fail, Status::XFail, Status::Skip, Status::UxSuccess, Status::Fail] {
            Draft::test(status.as_str(), status).send(&mut stream).unwrap();
        }
        assert_eq!(stream.into_inner().len(), 5);
        assert_eq!(stopped, [Some("uxsuccess".to_owned())]);
    }
}
