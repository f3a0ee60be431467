//! The machine with python-subunit, and what is exchanged with it.

use crate::folder::Folder;
use serde_json::{Value, json};
use testbed::{Bed, Testbed};
use testbed_subunit::EventRef;

/// A machine with python-subunit and testtools, and a folder that both sides see.
pub(crate) struct Reference {
    folder: Folder,
    bed: Bed,
}

impl Reference {
    pub(crate) fn up() -> Reference {
        let folder = Folder::empty();
        folder.write("testbed.toml", include_str!("testbed.toml"));
        folder.write("reference.py", include_str!("reference.py"));
        let bed = Testbed::load(folder.path())
            .unwrap()
            .up()
            .unwrap_or_else(|fault| panic!("{fault}\n{:?}", fault.hint));
        Reference { folder, bed }
    }

    /// The folder that both sides see.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What the reference makes of some bytes.
    pub(crate) fn makes(&self, what: &str, given: &[u8]) -> Vec<u8> {
        self.folder.write("given", given);
        let call = format!("cd /exchange && python3 reference.py {what} given made");
        self.bed["python"].succeed(&call).unwrap_or_else(|unmet| panic!("{unmet}"));
        std::fs::read(self.folder.path().join("made")).unwrap()
    }

    /// What the reference makes of each of some streams.
    pub(crate) fn makes_of_each(&self, what: &str, streams: &[Vec<u8>]) -> Vec<Value> {
        let framed = streams.iter().flat_map(|stream| {
            let length = u32::try_from(stream.len()).unwrap().to_be_bytes();
            length.into_iter().chain(stream.iter().copied())
        });
        let made = self.makes(what, &framed.collect::<Vec<u8>>());
        let lines = str::from_utf8(&made).unwrap().lines();
        let values: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(values.len(), streams.len());
        values
    }
}

/// The bytes of a string of hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// An event as the reference tells it, with the microseconds that it knows.
pub(crate) fn told(event: EventRef<'_>) -> Value {
    let mut tags: Vec<&str> = event.tags().iter().collect();
    tags.sort_unstable();
    tags.dedup();
    let tags = if tags.is_empty() { Value::Null } else { json!(tags) };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let micros =
        event.timestamp().map(|time| u64::from(time.seconds()) * 1_000_000 + u64::from(time.nanos() / 1000));
    json!([
        event.id(),
        event.status().map(|status| status.as_str()),
        tags,
        event.runnable(),
        event.file().map(|file| file.name),
        event.file().map(|file| hex(file.bytes)),
        event.eof(),
        event.mime(),
        event.route(),
        micros,
    ])
}
