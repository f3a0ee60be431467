//! A table of results, as spreadsheets read it (RFC 4180).
//!
//! One row a record. The first four columns are those of subunit2csv:
//!
//! | column | holds |
//! |---|---|
//! | `test` | the id |
//! | `status` | subunit's word, or `unfinished` |
//! | `start_time`, `stop_time` | RFC 3339 in UTC with nanoseconds |
//! | `duration` | seconds, with three digits behind the point |
//! | `route` | the route code |
//! | `tags` | parted by a space |
//! | `reason` | the first line of the attachment `reason` |
//!
//! What is not known is empty. Attachments are left out: they are no cells. Cells stand as they are, also where a
//! spreadsheet would take one for a formula.
//!
//! ```
//! use testbed_subunit::record::Records;
//! use testbed_subunit::{Draft, Status, csv};
//!
//! let mut records = Records::default();
//! let mut table = csv::Writer::new(Vec::new())?;
//! let skip = Draft::test("vpn.ping", Status::Skip).file("reason", b"no \"route\", none");
//! if let Some(record) = records.event(skip.check()?) {
//!     table.add(&record)?;
//! }
//! assert_eq!(
//!     String::from_utf8(table.finish()?)?,
//!     "test,status,start_time,stop_time,duration,route,tags,reason\r\n\
//!      vpn.ping,skip,,,,,,\"no \"\"route\"\", none\"\r\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Write};

use crate::event::Status;
use crate::record::Record;

/// Writes rows to `W` as records come.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    row: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a table in `out` by the names of its columns.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"test,status,start_time,stop_time,duration,route,tags,reason\r\n")?;
        Ok(Self { out, row: Vec::new() })
    }

    /// Writes the row of a record.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        let status = record.status.filter(|status| status.is_final()).map_or("unfinished", Status::as_str);
        let time = |time: Option<crate::Timestamp>| time.map_or(String::new(), |time| time.to_string());
        let duration = record.duration().map_or(String::new(), |taken| format!("{:.3}", taken.as_secs_f64()));
        let tags: Vec<&str> = record.tags.iter().map(|tag| &**tag).collect();
        let cells = [
            &*record.id,
            status,
            &time(record.start),
            &time(record.stop),
            &duration,
            record.route.as_deref().unwrap_or_default(),
            &tags.join(" "),
            &record.reason().unwrap_or_default(),
        ];
        self.row.clear();
        for (place, cell) in cells.into_iter().enumerate() {
            if place > 0 {
                self.row.push(b',');
            }
            put_cell(cell, &mut self.row);
        }
        self.row.extend_from_slice(b"\r\n");
        self.out.write_all(&self.row)
    }

    /// Ends the table, and gives back what it was written to.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn put_cell(text: &str, out: &mut Vec<u8>) {
    if !text.contains([',', '"', '\r', '\n']) && text.trim() == text {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
