//! The store: built once, published whole, removed with care.

use crate::harness::{Counting, Folder, names, resolve};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use testbed::FaultKind;
use testbed::image::{Collect, Store};
use testbed_agent::agent::Exit;

const TWO: &str = "[images.i]\nbase = \"host\"\nrun = [\"one\", \"two\"]\n";
const ONE: &str = "[images.i]\nbase = \"host\"\nrun = [\"one\"]\n";
const ALL: Collect = Collect { unused_for: Some(Duration::ZERO), most_bytes: None, step: None };

#[test]
fn threads_that_want_one_layer_build_it_once() {
    let folder = Folder::new();
    let builder = Counting { takes: Duration::from_millis(100), ..Counting::new() };
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let store = Store::open(folder.path().join("s")).unwrap();
                    resolve(&store, folder.path(), TWO, &builder).unwrap().layers
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(builder.count(), 2, "one build for each of the two steps");
    assert!(found.iter().all(|layers| *layers == found[0] && layers.len() == 2), "{found:?}");
    // The second was built on the first, which is below it.
    assert_eq!(*builder.seen.lock().unwrap(), [vec![], vec![found[0][1].clone()]]);
    assert!(std::fs::read_to_string(found[0][0].join("made")).unwrap().ends_with("two"));
}

/// What the tests below start as processes of their own; not a test by itself.
#[test]
#[ignore = "a process that tests start"]
fn process_that_builds() {
    let folder = std::env::var("FOLDER").expect("set by the test that starts this");
    let takes = std::env::var("TAKES_MS").expect("set by the test that starts this").parse().unwrap();
    let folder = std::path::Path::new(&folder);
    let builder = Counting { takes: Duration::from_millis(takes), ..Counting::new() };
    let store = Store::open(folder.join("s")).unwrap();
    resolve(&store, folder, ONE, &builder).unwrap();
    let mut counts =
        std::fs::OpenOptions::new().create(true).append(true).open(folder.join("counts")).unwrap();
    std::io::Write::write_all(&mut counts, format!("{}\n", builder.count()).as_bytes()).unwrap();
}

fn process(folder: &Folder, takes_ms: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "cache::process_that_builds"])
        .env("FOLDER", folder.path())
        .env("TAKES_MS", takes_ms.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_that_want_one_layer_build_it_once() {
    let folder = Folder::new();
    let mut processes: Vec<Child> = (0..4).map(|_| process(&folder, 200)).collect();
    assert!(processes.iter_mut().all(|process| process.wait().unwrap().success()));
    let counts = std::fs::read_to_string(folder.path().join("counts")).unwrap();
    let mut counts: Vec<&str> = counts.lines().collect();
    counts.sort_unstable();
    assert_eq!(counts, ["0", "0", "0", "1"]);
}

#[test]
fn a_killed_builder_is_swept_and_replaced() {
    let folder = Folder::new();
    let mut process = process(&folder, 600_000);
    let temporary = folder.path().join("s/tmp");
    let end = Instant::now() + Duration::from_secs(20);
    let begun = || {
        let mut entries = temporary.read_dir().ok()?.flatten();
        entries.next().filter(|entry| entry.path().join("upper/made").exists())
    };
    while begun().is_none() {
        assert!(Instant::now() < end, "the builder never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(begun().is_some(), "what it was building is still there");
    let store = Store::open(folder.path().join("s")).unwrap();
    assert_eq!(names(&store, "tmp"), [""; 0]);
    assert_eq!(names(&store, "layers"), [""; 0]);
    let builder = Counting::new();
    resolve(&store, folder.path(), ONE, &builder).unwrap();
    assert_eq!(builder.count(), 1);
}

#[test]
fn a_builder_that_works_is_not_swept() {
    let folder = Folder::new();
    let builder = Counting { takes: Duration::from_millis(300), ..Counting::new() };
    let store = Store::open(folder.path().join("s")).unwrap();
    std::thread::scope(|scope| {
        let build = scope.spawn(|| resolve(&store, folder.path(), ONE, &builder));
        while builder.count() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let other = Store::open(folder.path().join("s")).unwrap();
        assert_eq!(names(&other, "tmp").len(), 1);
        build.join().unwrap().unwrap();
    });
}

#[test]
fn a_build_that_fails_shows_its_log_and_leaves_nothing() {
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let failing = Counting { exit: Exit::Code(7), ..Counting::new() };
    let fault = resolve(&store, folder.path(), ONE, &failing).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Image);
    assert_eq!(fault.operation, "run one: it ended with status 7");
    assert_eq!(fault.log.as_deref(), Some("said this before it ended\n"));
    assert_eq!(names(&store, "tmp"), [""; 0]);
    assert_eq!(names(&store, "layers"), [""; 0]);
    resolve(&store, folder.path(), ONE, &Counting::new()).unwrap();
    assert_eq!(names(&store, "layers").len(), 1);
}

/// What is collected once it can be. A process that another test has just forked holds all locks of this one until it
/// executes its program.
fn collected(store: &Store, count: usize) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(5);
    let mut steps = Vec::new();
    while steps.len() < count && Instant::now() < end {
        steps.extend(store.collect(&ALL).unwrap().into_iter().map(|meta| meta.step));
    }
    steps
}

#[test]
fn layers_in_use_and_below_stay() {
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let builder = Counting::new();
    let used = resolve(&store, folder.path(), ONE, &builder).unwrap();
    let above = resolve(&store, folder.path(), TWO, &builder).unwrap();
    let listed = store.list().unwrap();
    assert!(listed.iter().all(|layer| layer.in_use && layer.meta.base == "host"), "{listed:?}");
    assert_eq!(listed.len(), 2);
    assert_eq!(store.collect(&ALL).unwrap(), []);

    // The upper one is free, the lower one is not.
    drop(above);
    let lower = listed.iter().find(|layer| layer.meta.below.is_empty()).unwrap().meta.key.clone();
    let fault = store.remove(&lower).unwrap_err();
    assert_eq!(fault.kind, FaultKind::State);
    assert_eq!(collected(&store, 1), ["run two"]);
    assert!(used.layers[0].join("made").exists());

    // A layer that another stands on goes after it.
    let above = resolve(&store, folder.path(), TWO, &builder).unwrap();
    drop((used, above));
    assert_eq!(collected(&store, 2), ["run two", "run one"]);
    assert_eq!(names(&store, "layers"), [""; 0]);
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn removing_a_layer_removes_what_stands_on_it() {
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    drop(resolve(&store, folder.path(), TWO, &Counting::new()).unwrap());
    let lower = store.list().unwrap().into_iter().find(|layer| layer.meta.below.is_empty()).unwrap().meta;
    assert_eq!(store.find(lower.key.short()).unwrap(), lower.key);
    let end = Instant::now() + Duration::from_secs(5);
    let removed = loop {
        match store.remove(&lower.key) {
            // As for `collected`.
            Err(fault) if fault.kind == FaultKind::State && Instant::now() < end => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(removed.len(), 2);
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(store.remove(&lower.key).unwrap_err().kind, FaultKind::NotFound);
}

#[test]
fn collecting_by_size_takes_what_was_unused_longest() {
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    for text in ["one", "two", "three"] {
        let text = format!("[images.i]\nbase = \"host\"\nrun = [\"{text}\"]\n");
        drop(resolve(&store, folder.path(), &text, &Counting::new()).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(resolve(&store, folder.path(), ONE, &Counting::new()).unwrap());
    let sizes: u64 = store.list().unwrap().iter().map(|layer| layer.meta.size).sum();
    let gone = store.collect(&Collect { most_bytes: Some(sizes - 1), ..Collect::default() }).unwrap();
    assert_eq!(gone.iter().map(|meta| meta.step.as_str()).collect::<Vec<_>>(), ["run two"]);
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(store.collect(&Collect { unused_for: hour, ..Collect::default() }).unwrap(), []);
    let gone = store.collect(&Collect { step: Some("run three"), ..ALL }).unwrap();
    assert_eq!(gone.iter().map(|meta| meta.step.as_str()).collect::<Vec<_>>(), ["run three"]);
}

#[test]
fn the_store_is_private_and_knows_its_format() {
    let folder = Folder::new();
    let path = folder.path().join("s");
    let store = Store::open(&path).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    drop(resolve(&store, folder.path(), ONE, &Counting::new()).unwrap());
    std::fs::write(path.join("format"), "0\n").unwrap();
    assert_eq!(Store::open(&path).unwrap().list().unwrap(), [], "older layers are dropped");
    std::fs::write(path.join("format"), "2\n").unwrap();
    assert_eq!(Store::open(&path).unwrap_err().kind, FaultKind::Unsupported);
}

#[test]
fn content_decides_which_layer_it_is() {
    let folder = Folder::new();
    let store = Store::open(folder.path().join("s")).unwrap();
    let text = "[images.i]\nbase = \"host\"\nfiles = { \"/etc/site.conf\" = \"site.conf\" }\n";
    folder.write("site.conf", "one");
    let builder = Counting::new();
    let first = resolve(&store, folder.path(), text, &builder).unwrap();
    let same = resolve(&store, folder.path(), text, &builder).unwrap();
    folder.write("site.conf", "two");
    let other = resolve(&store, folder.path(), text, &builder).unwrap();
    assert_eq!(first.layers, same.layers);
    assert_ne!(first.layers, other.layers);
    let content = |layers: &[std::path::PathBuf]| std::fs::read(layers[0].join("etc/site.conf")).unwrap();
    assert_eq!((content(&first.layers), content(&other.layers)), (b"one".to_vec(), b"two".to_vec()));
    // The folder above it is as the host's.
    let modes = |path: &std::path::Path| path.metadata().unwrap().mode();
    assert_eq!(modes(&first.layers[0].join("etc")), modes(std::path::Path::new("/etc")));
    assert_eq!(builder.count(), 0, "files need no machine");
}
