//! What a run looks like, as folds over its events: the same stream always gives the same report.

mod lines;
mod live;
mod running;
mod still;
mod stream;

pub(crate) use stream::{Stream, StreamFormat};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal::{self, Style};
use lines::Paper;
use live::Live;
use running::Running;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use still::Still;
use testbed::run::TESTBED_FAILED;
use testbed_subunit::record::Record;
use testbed_subunit::{EventRef, Records, Status, Summary, junit};

/// What is written, and where to.
pub(crate) struct Options<'a> {
    /// The testbed's name.
    pub(crate) name: &'a str,
    /// The events themselves on standard output.
    pub(crate) stream: Option<StreamFormat>,
    /// A JUnit report.
    pub(crate) junit: Option<&'a Path>,
    /// A view that is redrawn in place.
    pub(crate) live: bool,
    /// Lines that tell what is still running, where there is no such view.
    pub(crate) still: bool,
    /// The events may have happened before they are seen: what is running began when they say.
    pub(crate) stored: bool,
    /// Set once the run is to end: the view says so.
    pub(crate) ending: Arc<AtomicBool>,
    /// For the lines.
    pub(crate) style: Style,
}

impl Options<'_> {
    /// Lines on standard output, and nothing else.
    pub(crate) fn lines(style: Style) -> Options<'static> {
        Options {
            name: "tests",
            stream: None,
            junit: None,
            live: false,
            still: false,
            stored: false,
            ending: Arc::default(),
            style,
        }
    }
}

/// All reports of a run.
pub(crate) struct Report<'a> {
    fold: Fold,
    stream: Option<Stream>,
    junit: Option<(PathBuf, junit::Writer<'a, BufWriter<File>>)>,
    paper: Paper,
    running: Running,
    live: Option<Live>,
    still: Option<Still>,
}

/// What is known of a run from its events.
#[derive(Default)]
pub(crate) struct Fold {
    records: Records,
    pub(crate) summary: Summary,
    /// Tests that were announced, and those of them that have ended.
    pub(crate) planned: u64,
    pub(crate) done: u64,
    testbed_failed: bool,
}

impl Fold {
    /// Takes an event; gives what it completes, unless that is only an announcement.
    fn event(&mut self, event: EventRef<'_>) -> Option<Record> {
        let record = self.records.event(event)?;
        if record.status == Some(Status::Exists) {
            self.planned += u64::from(record.runnable);
            return None;
        }
        self.done += u64::from(record.runnable);
        self.testbed_failed |= is_testbeds(&record);
        self.summary.add(&record);
        Some(record)
    }

    /// How the command ends.
    fn exit(&self, stopped: bool) -> Exit {
        if stopped {
            Exit::Interrupted
        } else if self.testbed_failed {
            Exit::TestbedFailed
        } else if !self.summary.is_success() {
            Exit::TestsFailed
        } else if self.planned == 0 {
            Exit::NothingToRun
        } else {
            Exit::Success
        }
    }
}

/// Whether the testbed failed, and not what was tested.
pub(crate) fn is_testbeds(record: &Record) -> bool {
    let is_machine = !record.runnable && record.id.starts_with("testbed/");
    record.is_failure() && (is_machine || record.tags.contains(TESTBED_FAILED))
}

impl<'a> Report<'a> {
    /// Opens the reports.
    ///
    /// # Errors
    /// When the JUnit file cannot be made.
    pub(crate) fn new(options: &Options<'a>) -> Result<Report<'a>, Failure> {
        let junit = options.junit.map(|path| -> Result<_, Failure> {
            let file = File::create(path).map_err(|e| match e.kind() {
                io::ErrorKind::StorageFull => Failure::io(format!("write {}", path.display()), e),
                _ => Failure::call(format!("cannot write {}: {e}", path.display())),
            })?;
            let writer = junit::Writer::new(BufWriter::new(file), options.name).broken(is_testbeds);
            Ok((path.to_owned(), writer))
        });
        let to_stderr = options.stream.is_some();
        Ok(Report {
            fold: Fold::default(),
            stream: options.stream.map(Stream::new),
            junit: junit.transpose()?,
            paper: Paper::new(options.style, to_stderr),
            running: Running::new(options.stored),
            live: options.live.then(|| Live::new(options.style, Arc::clone(&options.ending))),
            still: options.still.then(Still::default),
        })
    }

    /// Takes the next event.
    pub(crate) fn event(&mut self, event: EventRef<'_>) {
        if let Some(stream) = &mut self.stream {
            stream.write(event);
        }
        if self.live.is_some() || self.still.is_some() {
            self.running.event(event);
        }
        if let Some(record) = self.fold.event(event) {
            self.record(&record);
        }
        self.draw();
    }

    /// Draws the live view, if it is time to.
    pub(crate) fn draw(&mut self) {
        if let Some(live) = &mut self.live {
            live.draw(&self.fold, &self.running);
        }
        if let Some(still) = &mut self.still {
            still.tell(&self.running);
        }
    }

    /// Whether all that was written so far had a reader.
    pub(crate) fn has_reader(&self) -> bool {
        self.paper.has_reader()
    }

    fn record(&mut self, record: &Record) {
        if let Some((_, junit)) = &mut self.junit
            && (record.runnable || record.is_failure())
        {
            junit.add(record);
        }
        if !record.runnable && !record.is_failure() {
            return;
        }
        if let Some(live) = &mut self.live {
            live.clear();
        }
        self.paper.result(record);
    }

    /// Writes what stands at the end, and says how the command ends.
    ///
    /// # Errors
    /// When a report cannot be written.
    pub(crate) fn finish(mut self, stopped: bool) -> Result<Exit, Failure> {
        if let Some(live) = &mut self.live {
            live.clear();
        }
        let rest = std::mem::take(&mut self.fold.records).finish();
        for record in &rest.unfinished {
            if record.runnable {
                self.fold.done += 1;
                self.record(record);
            }
        }
        self.fold.summary.add_rest(&rest);
        self.paper.summary(&self.fold, stopped);
        if let Some((path, junit)) = self.junit {
            let written = junit.finish().and_then(|mut file| file.flush());
            written.map_err(|e| Failure::io(format!("write {}", path.display()), e))?;
        }
        let exit = self.fold.exit(stopped);
        match self.paper.finish().and(self.stream.map_or(Ok(()), Stream::finish)) {
            // Whoever ends a run by closing its terminal knows that nothing can be written there.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe && !stopped => {
                Err(Failure::io(terminal::TO_OUTPUT, error))
            }
            _ => Ok(exit),
        }
    }
}
