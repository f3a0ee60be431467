use super::Sink;
use crate::event::{EventError, EventRef};
use crate::record::{Limits, Record, Records, Rest};
use crate::summary::Summary;

/// Calls a function with what became of each test: see [`Records`].
///
/// A test that never reached a final status comes at the end of the stream.
#[derive(Clone, Debug)]
pub struct ToRecords<F> {
    records: Records,
    each: F,
    rest: Rest,
}

impl<F, E> ToRecords<F>
where
    F: FnMut(&Record) -> Result<(), E>,
{
    /// Calls `each` with each test's record, whose attachments are kept within `limits`.
    pub fn new(limits: Limits, each: F) -> Self {
        Self { records: Records::new(limits), each, rest: Rest::default() }
    }

    /// The tests that are running.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// What was left over when the stream had ended: the unfinished tests, which have been given out, and how many failures
    /// are of no test.
    pub fn into_rest(self) -> Rest {
        self.rest
    }
}

impl<F, E> Sink for ToRecords<F>
where
    F: FnMut(&Record) -> Result<(), E>,
    E: From<EventError>,
{
    type Error = E;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), E> {
        self.records.event(event).map_or(Ok(()), |record| (self.each)(&record))
    }

    fn finish(&mut self) -> Result<(), E> {
        self.rest = std::mem::take(&mut self.records).finish();
        self.rest.unfinished.iter().try_for_each(&mut self.each)
    }
}

/// Makes a [`Summary`] of a stream that goes by. It keeps no attachments.
#[derive(Clone, Debug)]
pub struct Summarize<S> {
    records: Records,
    summary: Summary,
    sink: S,
}

impl<S> Summarize<S> {
    /// Counts what goes to `sink`, which may be a [`super::Discard`].
    pub fn new(sink: S) -> Self {
        let records = Records::new(Limits { bytes: 0, attachments: 0 });
        Self { records, summary: Summary::default(), sink }
    }

    /// The figures so far. They count unfinished tests once the stream has ended.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What the events go to.
    pub fn into_inner(self) -> S {
        self.sink
    }
}

impl<S: Sink> Sink for Summarize<S> {
    type Error = S::Error;

    fn event(&mut self, event: EventRef<'_>) -> Result<(), S::Error> {
        if let Some(record) = self.records.event(event) {
            self.summary.add(&record);
        }
        self.sink.event(event)
    }

    fn finish(&mut self) -> Result<(), S::Error> {
        self.summary.add_rest(&std::mem::take(&mut self.records).finish());
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Discard;
    use crate::{Draft, Status};

    #[test]
    fn unfinished_tests_come_at_the_end() {
        let mut seen = Vec::new();
        let each = |record: &Record| {
            seen.push((record.id.to_string(), record.is_failure()));
            Ok::<(), EventError>(())
        };
        let mut stream = ToRecords::new(Limits::default(), each);
        Draft::test("hung", Status::InProgress).send(&mut stream).unwrap();
        Draft::test("good", Status::Success).send(&mut stream).unwrap();
        Draft::output("log", b"x").send(&mut stream).unwrap();
        stream.finish().unwrap();
        assert_eq!(stream.into_rest().unfinished.len(), 1);
        assert_eq!(seen, [("good".to_owned(), false), ("hung".to_owned(), true)]);
    }

    #[test]
    fn what_fails_a_run() {
        let failed = |status| {
            let mut stream = Summarize::new(Discard::<EventError>::default());
            Draft::test("t", status).send(&mut stream).unwrap();
            stream.finish().unwrap();
            !stream.summary().is_success()
        };
        let fails: Vec<_> = Status::ALL.into_iter().filter(|&status| failed(status)).collect();
        assert_eq!(fails, [Status::InProgress, Status::UxSuccess, Status::Fail]);
        let mut only_a_file = Summarize::new(Discard::<EventError>::default());
        Draft::new().id("t").file("log", b"x").send(&mut only_a_file).unwrap();
        only_a_file.finish().unwrap();
        assert!(!only_a_file.summary().is_success());
    }
}
