//! Images that are taken in under a name.

use crate::archives::{Layout, tar};
use crate::harness::{Counting, Folder, cannot, is_root, names, resolve};
use std::io::{Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tar::EntryType;
use testbed::image::{Collect, Imported, Resolved, Source, Store};
use testbed::{Fault, FaultKind};

const ALL: Collect = Collect { unused_for: Some(Duration::ZERO), most_bytes: None, step: None };

fn store(folder: &Folder) -> Store {
    Store::open(folder.path().join("s")).unwrap()
}

fn import(store: &Store, name: &str, path: impl AsRef<Path>) -> Result<Imported, Fault> {
    store.import(name, Source::Path(path.as_ref()), &mut |_| {})
}

fn stream(store: &Store, name: &str, mut bytes: impl Read) -> Result<Imported, Fault> {
    store.import(name, Source::Stream { reader: &mut bytes, shown: "a stream" }, &mut |_| {})
}

/// The image of a name, as a machine gets it.
fn image(folder: &Folder, name: &str) -> Resolved {
    let text = format!("[images.i]\nbase = \"{name}\"\n");
    let text = if name == "i" { "" } else { &text };
    resolve(&store(folder), folder.path(), text, &Counting::new()).unwrap()
}

fn file(image: &Resolved, name: &str) -> String {
    let found = image.layers.iter().find_map(|layer| std::fs::read_to_string(layer.join(name)).ok());
    found.unwrap_or_else(|| panic!("no {name} in {:?}", image.layers))
}

fn root(content: &str) -> Vec<u8> {
    tar(&[("etc/", EntryType::Directory, ""), ("etc/word", EntryType::Regular, content)])
}

/// Packs a folder with the host's tar.
fn packed(folder: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(["-cf", "-", "."]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn an_archive_is_the_same_wherever_it_comes_from() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    let path = folder.write("root.tar", root("one"));
    let first = import(&store, "one", &path).unwrap();
    assert_eq!((first.source.as_str(), first.layers.len()), (path.to_str().unwrap(), 1));
    assert_eq!(stream(&store, "two", root("one").as_slice()).unwrap().layers, first.layers);
    match Command::new("gzip").arg("-k").arg(&path).status() {
        Ok(status) => {
            assert!(status.success());
            let zipped = std::fs::File::open(folder.path().join("root.tar.gz")).unwrap();
            assert_eq!(stream(&store, "three", zipped).unwrap().layers, first.layers);
        }
        Err(error) => cannot(&format!("no gzip: {error}")),
    }
    assert_ne!(stream(&store, "other", root("two").as_slice()).unwrap().layers, first.layers);
    assert_eq!(file(&image(&folder, "two"), "etc/word"), "one");
    assert_eq!(file(&image(&folder, "other"), "etc/word"), "two");
    let top = store.list().unwrap().into_iter().find(|layer| layer.meta.key == first.layers[0]).unwrap();
    assert!(top.names.contains(&"one".to_owned()) && top.names.contains(&"two".to_owned()), "{top:?}");
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn folders_and_layouts_are_taken_in_as_bases_are() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    folder.write("root/etc/word", "in a folder");
    import(&store, "folder", folder.path().join("root")).unwrap();
    assert_eq!(file(&image(&folder, "folder"), "etc/word"), "in a folder");

    let layout = Layout(&folder);
    let below = layout.blob(&root("below"));
    let above =
        layout.blob(&tar(&[("etc/.wh.word", EntryType::Regular, ""), ("a", EntryType::Regular, "a")]));
    layout.write(&[&below, &above]);
    let first = import(&store, "layout", folder.path().join("oci")).unwrap();
    let second = stream(&store, "packed", packed(&folder.path().join("oci")).as_slice()).unwrap();
    assert_eq!((first.layers.len(), &first.layers), (2, &second.layers));
    let found = image(&folder, "packed");
    assert_eq!(found.layers, image(&folder, "./oci").layers, "the layers are shared");
    assert_eq!(found.env[0], ("A".to_owned(), "1".to_owned()));
    assert_eq!((found.workdir.as_deref(), found.user.as_deref()), (Some("/w"), Some("7:8")));
}

#[test]
fn what_newer_versions_of_docker_save_has_the_layers_of_the_layout_in_it() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    let layout = Layout(&folder);
    let blobs = [layout.blob(&root("below")), layout.blob(&tar(&[("a", EntryType::Regular, "a")]))];
    layout.write(&[&blobs[0], &blobs[1]]);
    let plain = import(&store, "layout", folder.path().join("oci")).unwrap();
    let path = |blob: &str| {
        let digest = blob.split(['"', ':']).find(|part| part.len() == 64).unwrap().to_owned();
        format!("blobs/sha256/{digest}")
    };
    let own = path(&layout.blob(config().as_bytes()));
    let manifest = format!(
        r#"[{{"Config":"{own}","RepoTags":null,"Layers":["{}","{}"]}}]"#,
        path(&blobs[0]),
        path(&blobs[1])
    );
    folder.write("oci/manifest.json", manifest);
    let both = stream(&store, "both", packed(&folder.path().join("oci")).as_slice()).unwrap();
    assert_eq!(both.layers, plain.layers);
    assert_eq!(both.env, [("B".to_owned(), "2".to_owned())]);
}

/// What older versions of Docker save: a second layer that is the first again is a link to it.
fn saved(folder: &Folder, config: &str, manifest: Option<&str>) -> Vec<u8> {
    let top = tar(&[("top", EntryType::Regular, "on top")]);
    folder.write("saved/one/layer.tar", root("below"));
    folder.write("saved/three/layer.tar", top);
    folder.write("saved/config.json", config);
    let layers = r#"["one/layer.tar","two/layer.tar","three/layer.tar"]"#;
    let all = format!(r#"[{{"Config":"config.json","RepoTags":["app:1"],"Layers":{layers}}}]"#);
    folder.write("saved/manifest.json", manifest.unwrap_or(&all));
    std::fs::create_dir_all(folder.path().join("saved/two")).unwrap();
    let _ = symlink("../one/layer.tar", folder.path().join("saved/two/layer.tar"));
    packed(&folder.path().join("saved"))
}

fn config() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Env":["B=2"],"WorkingDir":"/srv"}}}}"#
    )
}

#[test]
fn what_docker_saved_is_an_image() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    assert_eq!(stream(&store, "app", saved(&folder, &config(), None).as_slice()).unwrap().layers.len(), 3);
    let app = image(&folder, "app");
    assert_eq!((file(&app, "etc/word").as_str(), file(&app, "top").as_str()), ("below", "on top"));
    assert_eq!(app.env, [("B".to_owned(), "2".to_owned())]);
    assert_eq!(app.workdir.as_deref(), Some("/srv"));

    // As a base, what it is must be said: what is in it is no root file system.
    folder.write("app.tar", saved(&folder, &config(), None));
    let text = "[images.i]\nbase = \"./app.tar\"\n";
    let fault = resolve(&store, folder.path(), text, &Counting::new()).unwrap_err();
    assert!(
        fault.kind == FaultKind::Image && fault.hint.unwrap().contains("image import NAME"),
        "{}",
        fault.operation
    );

    let foreign = config().replace("linux", "plan9");
    let fault = stream(&store, "other", saved(&folder, &foreign, None).as_slice()).unwrap_err();
    assert!(fault.kind == FaultKind::Image && fault.operation.contains("for plan9/"), "{fault:?}");
    let two =
        r#"[{"Config":"c","RepoTags":["a:1"],"Layers":[]},{"Config":"c","RepoTags":["b:1"],"Layers":[]}]"#;
    let fault = stream(&store, "other", saved(&folder, &config(), Some(two)).as_slice()).unwrap_err();
    assert!(fault.operation.contains("2 images: a:1, b:1") && fault.hint.is_some(), "{fault:?}");
    assert_eq!(names(&store, "images"), ["app"]);
    assert_eq!(names(&store, "tmp"), [""; 0]);
}

#[test]
fn hostile_images_reach_nothing_of_the_host() {
    let outside = Folder::new();
    let secret = outside.write("secret.tar", root("of the host"));
    let secret = secret.to_str().unwrap();
    let up = format!("{}{}", "../".repeat(20), secret.trim_start_matches('/'));
    for target in [secret, up.as_str(), "/dev/zero", "../pipe", "../two/layer.tar"] {
        let folder = Folder::new();
        let store = store(&folder);
        std::fs::create_dir_all(folder.path().join("saved/two")).unwrap();
        symlink(target, folder.path().join("saved/two/layer.tar")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("saved/pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let bytes = saved(&folder, &config(), None);
        for result in
            [stream(&store, "evil", bytes.as_slice()), import(&store, "evil", folder.path().join("saved"))]
        {
            let fault = result.unwrap_err();
            assert!(fault.operation.contains("open a layer") || !is_root(), "{target}: {fault:?}");
        }
        for path in [secret.to_owned(), up.clone()] {
            let manifest = format!(r#"[{{"Config":"config.json","Layers":["{path}"]}}]"#);
            let bytes = saved(&folder, &config(), Some(&manifest));
            assert!(stream(&store, "evil", bytes.as_slice()).is_err(), "{path}");
        }
        assert_eq!((names(&store, "images"), names(&store, "tmp")), (vec![], vec![]), "{target}");
    }
}

#[test]
fn no_image_makes_us_panic_or_leaves_anything_behind() {
    use proptest::prelude::*;
    let folder = Folder::new();
    let store = store(&folder);
    let docker = saved(&folder, &config(), None);
    let layout = Layout(&folder);
    layout.write(&[&layout.blob(&root("below"))]);
    let wholes = [docker, packed(&folder.path().join("oci"))];
    // Where there is something else than zeros: damage to padding is none.
    let said: Vec<Vec<usize>> = wholes
        .iter()
        .map(|whole| whole.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect())
        .collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&(0..wholes.len(), changes), |(which, changes)| {
            let mut bytes = wholes[which].clone();
            for (at, value) in changes {
                bytes[*at.get(&said[which])] = value;
            }
            let before = store.imported().unwrap();
            if stream(&store, "i", bytes.as_slice()).is_err() {
                prop_assert_eq!(store.imported().unwrap(), before);
            }
            prop_assert_eq!(names(&store, "tmp"), vec![""; 0]);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_cut_short_or_empty_leaves_nothing_and_the_name_as_it_was() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    let whole = root("whole");
    let before = stream(&store, "i", whole.as_slice()).unwrap();
    // After all of its entries, too: the end of an archive is marked.
    let unmarked = &whole[..whole.len() - 1024];
    let zeros = vec![0_u8; 10240];
    for (bytes, what) in [
        (&b""[..], "is empty"),
        (&whole[..900], ""),
        (unmarked, "its end is missing"),
        (&zeros, "nothing is in it"),
    ] {
        let fault = stream(&store, "i", bytes).unwrap_err();
        assert!(fault.kind == FaultKind::Image && fault.operation.contains(what), "{fault:?}");
    }
    let breaks = (&whole[..]).take(700).chain(Breaks);
    assert_eq!(stream(&store, "i", breaks).unwrap_err().kind, FaultKind::Image);
    assert_eq!(store.imported().unwrap(), [before]);
    assert_eq!((names(&store, "tmp").len(), names(&store, "layers").len()), (0, 1));
    for name in ["host", "", ".hidden", "a/b", "../up", "a b", "i.tar", &"n".repeat(200)] {
        assert_eq!(stream(&store, name, whole.as_slice()).unwrap_err().kind, FaultKind::Invalid, "{name}");
    }
    assert_eq!(import(&store, "i", folder.path().join("none")).unwrap_err().kind, FaultKind::NotFound);
}

struct Breaks;

impl Read for Breaks {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_name_keeps_its_layers_until_it_is_given_anew_or_removed() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    let first = stream(&store, "i", root("first").as_slice()).unwrap();
    assert_eq!(store.collect(&ALL).unwrap(), []);
    assert_eq!(store.collect(&Collect { most_bytes: Some(0), ..Collect::default() }).unwrap(), []);
    let fault = store.remove(&first.layers[0]).unwrap_err();
    assert!(fault.kind == FaultKind::State && fault.operation.contains("image `i`"), "{fault:?}");

    // What is used stays as it was, also when the name goes to another image.
    let used = image(&folder, "i");
    let second = stream(&store, "i", root("second").as_slice()).unwrap();
    assert_eq!(store.collect(&ALL).unwrap(), []);
    assert_eq!(
        (file(&used, "etc/word").as_str(), file(&image(&folder, "i"), "etc/word").as_str()),
        ("first", "second")
    );
    drop(used);
    let gone: Vec<_> = store.collect(&ALL).unwrap().into_iter().map(|meta| meta.key).collect();
    assert_eq!(gone, first.layers);

    let used = image(&folder, "i");
    let fault = store.remove_imported("i").unwrap_err();
    assert!(fault.kind == FaultKind::State && fault.operation.contains("in use"), "{fault:?}");
    assert_eq!(store.imported().unwrap(), std::slice::from_ref(&second));
    drop(used);
    // A layer built on it goes with it.
    let text = "[images.i]\nbase = \"i2\"\nrun = [\"on it\"]\n";
    stream(&store, "i2", root("second").as_slice()).unwrap();
    drop(resolve(&store, folder.path(), text, &Counting::new()).unwrap());
    assert_eq!(store.remove_imported("i").unwrap(), [], "the other name holds its layer");
    assert_eq!(file(&image(&folder, "i2"), "etc/word"), "second");
    assert_eq!(store.remove_imported("i2").unwrap().len(), 2);
    assert_eq!((store.list().unwrap(), store.imported().unwrap()), (vec![], vec![]));
    assert_eq!(store.remove_imported("i").unwrap_err().kind, FaultKind::NotFound);
}

#[test]
fn a_name_whose_layer_is_gone_says_so() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let store = store(&folder);
    let layer = stream(&store, "i", root("x").as_slice()).unwrap().layers.remove(0);
    std::fs::remove_dir_all(folder.path().join("s/layers").join(layer.as_str())).unwrap();
    let fault = resolve(&store, folder.path(), "", &Counting::new()).unwrap_err();
    assert!(
        fault.operation.contains("is gone") && fault.hint.unwrap().contains("import i "),
        "{}",
        fault.operation
    );
    assert_eq!(store.remove_imported("i").unwrap(), []);
}

/// What the test below starts as a process of its own; not a test by itself.
#[test]
#[ignore = "a process that tests start"]
fn process_that_imports() {
    let folder = std::env::var("FOLDER").expect("set by the test that starts this");
    let store = Store::open(Path::new(&folder).join("s")).unwrap();
    stream(&store, "i", std::io::stdin()).unwrap();
}

#[test]
fn a_killed_import_is_swept_and_one_that_goes_on_is_not() {
    let folder = Folder::new();
    let store = store(&folder);
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "import::process_that_imports"])
        .env("FOLDER", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(&root("half")[..600]).unwrap();
    let temporary = folder.path().join("s/tmp");
    let begun = || {
        let place = temporary.read_dir().unwrap().flatten().next();
        place.is_some_and(|place| place.path().join("tree").exists())
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !begun() {
        assert!(Instant::now() < end, "the import never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(self::store(&folder));
    assert!(begun(), "it was swept while it went on");
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(begun());
    drop(self::store(&folder));
    assert_eq!((names(&store, "tmp"), names(&store, "images")), (vec![], vec![]));
}
