//! The crate from outside: the wire format against vectors, the reader against damage, the reports against readers
//! of their formats.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

mod arbitrary;
mod seen;

mod damage;
mod filter;
mod forward;
mod live;
mod readers;
mod records;
mod reports;
mod v1;
mod vectors;
mod written;
