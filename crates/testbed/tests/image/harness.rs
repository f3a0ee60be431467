//! What the tests of images share.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use testbed::Fault;
use testbed::image::{Builder, Job, Options, Resolved, Store, imported_names};
use testbed::machine::{Accelerator, Hardware};
use testbed::spec::{HostFiles, Testbed, check};
use testbed_agent::agent::Exit;

/// A folder that goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("testbed-image-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The testbed of a text, relative paths starting from `folder`, with what was imported to the store in there.
pub(crate) fn testbed(folder: &Path, text: &str) -> Testbed {
    let files = HostFiles::new(folder).unwrap().with_images(imported_names(&folder.join("s")).unwrap());
    let text = format!("{text}\n[machines.m]\nimage = \"i\"\n");
    let (testbed, problems) = check(&text, "testbed.toml", &files);
    testbed.unwrap_or_else(|| panic!("{problems:?}"))
}

/// Resolves the image `i` of a text.
pub(crate) fn resolve(
    store: &Store,
    folder: &Path,
    text: &str,
    builder: &dyn Builder,
) -> Result<Resolved, Fault> {
    store.resolve(&testbed(folder, text), "i", builder, &Options::default(), &mut |_| {})
}

/// Builds without machines: counts, waits, and writes what it was told to run.
pub(crate) struct Counting {
    pub(crate) runs: AtomicU32,
    pub(crate) takes: Duration,
    pub(crate) exit: Exit,
    pub(crate) seen: Mutex<Vec<Vec<PathBuf>>>,
}

impl Counting {
    pub(crate) fn new() -> Counting {
        Counting {
            runs: AtomicU32::new(0),
            takes: Duration::ZERO,
            exit: Exit::Code(0),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

impl Builder for Counting {
    fn run(&self, job: &Job<'_>, log: &mut dyn Write) -> Result<Exit, Fault> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(job.layers.to_vec());
        std::fs::write(job.folder.join("upper/made"), job.program.join("\n")).unwrap();
        std::thread::sleep(self.takes);
        log.write_all(b"said this before it ended\n").unwrap();
        Ok(self.exit)
    }

    fn boot(
        &self,
        _: &[PathBuf],
        _: Option<&Path>,
        _: &Hardware,
        _: &Accelerator,
        _: Duration,
    ) -> Result<(), Fault> {
        panic!("no image of these tests has a kernel");
    }
}

/// The names in a folder of the store.
pub(crate) fn names(store: &Store, part: &str) -> Vec<String> {
    let entries = store.path().join(part).read_dir().unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Says loudly what a test cannot do here; in strict runs that is a failure.
pub(crate) fn cannot(what: &str) {
    assert!(std::env::var_os("TESTBED_STRICT").is_none(), "cannot be tested here: {what}");
    eprintln!("NOT TESTED: {what}");
}

pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        cannot("this needs root");
    }
    root
}
