use std::io::{self, Write};

use crate::event::Status;
use crate::record::Record;

/// Writes test points to `W` as records come.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    points: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a report in `out`.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"TAP version 13\n")?;
        Ok(Self { out, points: 0 })
    }

    /// Writes the test point of a record. A failure's attachments follow as comments.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        let (ok, directive) = match record.status {
            Some(Status::Exists) => return Ok(()),
            Some(Status::Success) => ("ok", None),
            Some(Status::Skip) => ("ok", Some("SKIP")),
            Some(Status::XFail) => ("not ok", Some("TODO")),
            Some(Status::Fail | Status::UxSuccess | Status::InProgress) | None => ("not ok", None),
        };
        self.points += 1;
        let mut point = format!("{ok} {} - {}", self.points, description(&record.id));
        if let Some(directive) = directive {
            point.push_str(" # ");
            point.push_str(directive);
            if let Some(reason) = record.reason() {
                point.push(' ');
                point.push_str(&description(&reason));
            }
        }
        point.push('\n');
        self.out.write_all(point.as_bytes())?;
        if record.is_failure() {
            self.diagnose(record)?;
        }
        Ok(())
    }

    /// Writes the plan, and gives back what the report was written to.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn finish(mut self) -> io::Result<W> {
        writeln!(self.out, "1..{}", self.points)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn diagnose(&mut self, record: &Record) -> io::Result<()> {
        let status = record.status.map_or("unfinished", |status| match status {
            Status::InProgress => "unfinished",
            status => status.as_str(),
        });
        write!(self.out, "  ---\n  status: {status}\n")?;
        if let Some(duration) = record.duration() {
            writeln!(self.out, "  duration_ms: {}", duration.as_millis())?;
        }
        self.out.write_all(b"  ...\n")?;
        for attachment in &record.attachments {
            writeln!(self.out, "# {}:", description(&attachment.name))?;
            for line in attachment.kept.to_vec().split(|&byte| byte == b'\n') {
                if !line.is_empty() {
                    writeln!(self.out, "#   {}", one_line(&String::from_utf8_lossy(line)))?;
                }
            }
        }
        Ok(())
    }
}

/// A text that reads as one description: on one line, with the characters escaped that mean something.
fn description(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('#', "\\#")
}

fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}
