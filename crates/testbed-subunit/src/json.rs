//! Events as JSON lines: one object a line, in a schema that only grows.
//!
//! A key is left out where the event says nothing of it; `runnable` always stands. They come in this order:
//!
//! | key | value |
//! |---|---|
//! | `time` | string: RFC 3339 in UTC with nanoseconds, `2026-11-20T19:00:01.500000000Z` |
//! | `route` | string: the route code |
//! | `id` | string: the test's id |
//! | `status` | string: `exists`, `inprogress`, `success`, `uxsuccess`, `skip`, `fail` or `xfail` |
//! | `runnable` | boolean |
//! | `tags` | array of strings, as the event has them |
//! | `file` | object: `name`, and the bytes as `text` where they are UTF-8, as `base64` (RFC 4648, padded) otherwise |
//! | `mime` | string: MIME type of the file |
//! | `eof` | `true` where the file ends |
//!
//! A reader ignores keys that it does not know. A piece of a file may end within a character: it is `base64` then.
//!
//! ```
//! use testbed_subunit::{Draft, Status, json};
//!
//! let mut out = Vec::new();
//! let event = Draft::test("vpn.ping", Status::Fail).tags(&["slow"]).file("stdout", b"no \"answer\"\n").check()?;
//! json::line(&event, &mut out);
//! assert_eq!(
//!     String::from_utf8_lossy(&out),
//!     r#"{"id":"vpn.ping","status":"fail","runnable":true,"tags":["slow"],"file":{"name":"stdout","text":"no \"answer\"\n"}}
//! "#
//! );
//! # Ok::<(), testbed_subunit::EventError>(())
//! ```

use serde::{Serialize, Serializer};

use crate::event::{EventRef, Tags, Timestamp};

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "time", skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    runnable: bool,
    #[serde(serialize_with = "all", skip_serializing_if = "Tags::is_empty")]
    tags: Tags<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    eof: bool,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Appends the line of `event` to `out`, its end included. The line holds no other line break.
pub fn line(event: &EventRef<'_>, out: &mut Vec<u8>) {
    let file = event.file().map(|file| {
        let text = std::str::from_utf8(file.bytes).ok();
        File { name: file.name, text, base64: text.is_none().then(|| base64(file.bytes)) }
    });
    let line = Line {
        time: event.timestamp(),
        route: event.route(),
        id: event.id(),
        status: event.status().map(crate::Status::as_str),
        runnable: event.runnable(),
        tags: event.tags(),
        file,
        mime: event.mime(),
        eof: event.eof(),
    };
    put(&line, out);
}

/// Appends `value` and the end of its line. It has no keys but strings.
pub(crate) fn put(value: &impl Serialize, out: &mut Vec<u8>) {
    // A vector takes all that is written to it.
    let _ = serde_json::to_writer(&mut *out, value);
    out.push(b'\n');
}

/// A time as RFC 3339 has it.
pub(crate) fn time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

fn all<S: Serializer>(tags: &Tags<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tags.iter())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, section 4, padded.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for place in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit.into() } else { '=' });
        }
    }
    out
}
