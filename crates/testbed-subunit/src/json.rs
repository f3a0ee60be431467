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

use std::io::Write as _;

use crate::event::{EventRef, FileRef};

/// Appends the line of `event` to `out`, its end included. The line holds no other line break.
pub fn line(event: &EventRef<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(time) = event.timestamp() {
        out.extend_from_slice(b"\"time\":\"");
        // A vector takes all that is written to it.
        let _ = write!(out, "{time}");
        out.extend_from_slice(b"\",");
    }
    let texts =
        [("route", event.route()), ("id", event.id()), ("status", event.status().map(crate::Status::as_str))];
    for (key, text) in texts {
        if let Some(text) = text {
            put_key(key, out);
            put_string(text, out);
            out.push(b',');
        }
    }
    put_key("runnable", out);
    out.extend_from_slice(if event.runnable() { b"true" } else { b"false" });
    if !event.tags().is_empty() {
        out.push(b',');
        put_key("tags", out);
        for (place, tag) in event.tags().iter().enumerate() {
            out.push(if place == 0 { b'[' } else { b',' });
            put_string(tag, out);
        }
        out.push(b']');
    }
    if let Some(file) = event.file() {
        put_file(file, out);
    }
    if let Some(mime) = event.mime() {
        out.push(b',');
        put_key("mime", out);
        put_string(mime, out);
    }
    if event.eof() {
        out.extend_from_slice(b",\"eof\":true");
    }
    out.extend_from_slice(b"}\n");
}

fn put_file(file: FileRef<'_>, out: &mut Vec<u8>) {
    out.push(b',');
    put_key("file", out);
    out.push(b'{');
    put_key("name", out);
    put_string(file.name, out);
    out.push(b',');
    match std::str::from_utf8(file.bytes) {
        Ok(text) => {
            put_key("text", out);
            put_string(text, out);
        }
        Err(_) => {
            put_key("base64", out);
            out.push(b'"');
            put_base64(file.bytes, out);
            out.push(b'"');
        }
    }
    out.push(b'}');
}

fn put_key(key: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends `text` as a string of JSON (RFC 8259 section 7).
pub(crate) fn put_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 | 0x7f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..at]);
        match short {
            0 => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            short => out.extend_from_slice(&[b'\\', short]),
        }
        done = at + 1;
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for place in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit } else { b'=' });
        }
    }
}
