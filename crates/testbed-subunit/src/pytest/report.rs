//! One line of the log.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use crate::event::Timestamp;

/// Any of the reports, with the keys that we know.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    #[serde(rename = "$report_type")]
    pub(super) kind: String,
    pub(super) nodeid: Option<String>,
    pub(super) when: Option<String>,
    pub(super) outcome: Option<String>,
    #[serde(default)]
    pub(super) longrepr: Value,
    #[serde(default)]
    pub(super) wasxfail: Value,
    #[serde(default)]
    pub(super) sections: Vec<(String, String)>,
    #[serde(default)]
    pub(super) user_properties: Vec<(Value, Value)>,
    pub(super) worker_id: Option<String>,
    pub(super) exitstatus: Option<i64>,
    #[serde(default)]
    start: Option<f64>,
    #[serde(default)]
    stop: Option<f64>,
    #[serde(default, rename = "_subtest.context")]
    context: Value,
    category: Option<String>,
    filename: Option<String>,
    lineno: Option<i64>,
    #[serde(default)]
    message: Value,
}

impl Report {
    pub(super) fn start(&self) -> Option<Timestamp> {
        moment(self.start)
    }

    pub(super) fn stop(&self) -> Option<Timestamp> {
        moment(self.stop)
    }

    /// The id of a subtest of `node`.
    pub(super) fn subtest(&self, node: &str) -> String {
        let mut id = node.to_owned();
        if let Some(message) = self.context["msg"].as_str() {
            id.push_str(&format!(" [{message}]"));
        }
        let parameters = self.context["kwargs"].as_object().into_iter().flatten();
        let parameters: Vec<_> = parameters.map(|(key, value)| format!("{key}={}", plain(value))).collect();
        if !parameters.is_empty() {
            id.push_str(&format!(" ({})", parameters.join(", ")));
        }
        id
    }

    /// A warning as one line.
    pub(super) fn warning(&self) -> String {
        let file = self.filename.as_deref().unwrap_or_default();
        let category = self.category.as_deref().unwrap_or("Warning");
        let line = self.lineno.unwrap_or_default();
        format!("{file}:{line}: {category}: {}\n", plain(&self.message))
    }

    /// The error as pytest shows it.
    pub(super) fn traceback(&self) -> String {
        match &self.longrepr {
            Value::String(text) => text.clone(),
            Value::Object(object) => {
                let mut text = String::new();
                let chain = object.get("chain").and_then(Value::as_array);
                match chain.filter(|chain| !chain.is_empty()) {
                    Some(chain) => {
                        for link in chain {
                            put_traceback(&link[0], &mut text);
                            if let Some(between) = link[2].as_str() {
                                text.push_str(&format!("\n{between}\n\n"));
                            }
                        }
                    }
                    None => put_traceback(&self.longrepr["reprtraceback"], &mut text),
                }
                for section in self.longrepr["sections"].as_array().into_iter().flatten() {
                    text.push_str(&format!("--- {} ---\n{}\n", plain(&section[0]), plain(&section[1])));
                }
                text
            }
            _ => String::new(),
        }
    }

    /// What went wrong.
    pub(super) fn reason(&self) -> Option<&str> {
        match &self.longrepr {
            Value::String(text) => Some(text),
            // A skip: file, line, reason.
            Value::Array(skip) => {
                skip.get(2)?.as_str().map(|text| text.strip_prefix("Skipped: ").unwrap_or(text))
            }
            object => object["reprcrash"]["message"].as_str(),
        }
    }

    /// Where it went wrong: `path:line`.
    pub(super) fn location(&self) -> Option<String> {
        let (path, line) = match &self.longrepr {
            Value::Array(skip) => (skip.first()?, skip.get(1)?),
            object => (&object["reprcrash"]["path"], &object["reprcrash"]["lineno"]),
        };
        Some(format!("{}:{}", path.as_str()?, line.as_i64()?))
    }
}

fn put_traceback(traceback: &Value, out: &mut String) {
    for entry in traceback["reprentries"].as_array().into_iter().flatten() {
        for line in entry["data"]["lines"].as_array().into_iter().flatten() {
            out.push_str(line.as_str().unwrap_or_default());
            out.push('\n');
        }
        let place = &entry["data"]["reprfileloc"];
        if let Some((path, line)) = place["path"].as_str().zip(place["lineno"].as_i64()) {
            // A string takes all that is written to it.
            let _ = writeln!(out, "\n{path}:{line}: {}", plain(&place["message"]));
        }
    }
    if let Some(extra) = traceback["extraline"].as_str() {
        out.push_str(extra);
        out.push('\n');
    }
}

/// A value as text, strings without their quotes.
pub(super) fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        value => Cow::Owned(value.to_string()),
    }
}

/// Seconds since 1970. Subtests have 0.
fn moment(seconds: Option<f64>) -> Option<Timestamp> {
    let micros = (seconds.filter(|seconds| *seconds > 0.0)? * 1e6).round() as u64;
    let nanos = (micros % 1_000_000) as u32 * 1_000;
    Timestamp::new(u32::try_from(micros / 1_000_000).ok()?, nanos).ok()
}
