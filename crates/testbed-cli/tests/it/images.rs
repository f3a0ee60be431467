//! `image`, and what images say of their programs.

use crate::call::{Called, Folder};
use crate::user::User;
use serde_json::Value;
use std::process::Command;

/// The command, with a store in its folder.
fn call(folder: &Folder, arguments: &[&str]) -> Called {
    let store = folder.path().join("store");
    Called::from(folder.command(arguments).env("TESTBED_CACHE", store).output().unwrap())
}

fn layers(folder: &Folder) -> Vec<Value> {
    serde_json::from_str(&call(folder, &["image", "ls", "--format", "json"]).text()).unwrap()
}

const TWO_LAYERS: &str = "[images.i]\nrun = ['echo first > /etc/first', 'echo second > /etc/second']\n\
                          [machines.m]\nimage = 'i'\n[[tests]]\nname = 't'\non = 'm'\nrun = 'cat /etc/first /etc/second'\n";

#[test]
fn layers_are_built_once_listed_and_removed_with_what_stands_on_them() {
    let Some(_) = User::new() else { return };
    let folder = Folder::with(TWO_LAYERS);
    let built = call(&folder, &["image", "build"]);
    assert_eq!(
        (built.code, built.text().as_str()),
        (Some(0), "i: 2 layers, on the host's root\n"),
        "{built:?}"
    );
    assert!(built.stderr.contains("image i: run echo first"), "{built:?}");
    let again = call(&folder, &["image", "build", "i", "--format", "json"]);
    assert_eq!(again.stderr, "", "it was built twice");
    let report: Value = serde_json::from_str(&again.text()).unwrap();
    assert_eq!((&report[0]["image"], report[0]["layers"].as_array().unwrap().len()), (&"i".into(), 2));

    let found = layers(&folder);
    let step =
        |text: &str| found.iter().find(|layer| layer["step"].as_str().unwrap().contains(text)).unwrap();
    let (first, second) = (step("first"), step("second"));
    assert_eq!((found.len(), &second["below"][0], &first["in_use"]), (2, &first["key"], &Value::Bool(false)));
    let text = call(&folder, &["image", "ls"]).text();
    let key = first["key"].as_str().unwrap();
    assert!(
        text.starts_with("LAYER") && text.contains(&key[..12]) && text.contains("run echo second"),
        "{text}"
    );

    let gone = call(&folder, &["image", "rm", &key[..8]]);
    assert_eq!((gone.code, gone.text().lines().count()), (Some(0), 2), "{gone:?}");
    assert_eq!(layers(&folder).len(), 0);
    let unknown = call(&folder, &["image", "rm", &key[..8]]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert_eq!(call(&folder, &["image", "build", "j"]).code, Some(2));
}

#[test]
fn what_is_in_use_stays_and_what_is_not_can_be_pruned() {
    let Some(_) = User::new() else { return };
    let text = TWO_LAYERS.replace("cat /etc/first", "echo ready; sleep 1000; cat /etc/first");
    let folder = Folder::with(&text);
    assert_eq!(call(&folder, &["image", "build"]).code, Some(0));
    let store = folder.path().join("store");
    let mut running = folder.command(&["run"]).env("TESTBED_CACHE", store).spawn().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !layers(&folder).iter().all(|layer| layer["in_use"] == true) {
        assert!(std::time::Instant::now() < end, "the layers of a running testbed are not in use");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let key = layers(&folder)[0]["key"].as_str().unwrap().to_owned();
    let refused = call(&folder, &["image", "rm", &key]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.stderr.contains("is in use") && refused.stderr.contains("stop the testbeds"),
        "{refused:?}"
    );
    assert_eq!(call(&folder, &["image", "prune"]).text(), "0 layers with 0 B have gone\n");
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(call(&folder, &["image", "prune", "--unused-for", "1d", "--most", "1G"]).code, Some(0));
    assert_eq!(layers(&folder).len(), 2);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !layers(&folder).is_empty() {
        // The locks go with the last process of the command that was killed.
        assert!(std::time::Instant::now() < end, "{:?}", layers(&folder));
        assert_eq!(call(&folder, &["image", "prune", "--most", "1"]).code, Some(0));
    }
}

#[test]
fn a_failed_build_shows_the_end_of_its_log_and_leaves_no_layer() {
    let Some(_) = User::new() else { return };
    let folder = Folder::with("[images.i]\nrun = ['echo what it said; exit 7']\n[machines.m]\nimage = 'i'\n");
    let failed = call(&folder, &["image", "build"]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.stderr.contains("status 7") && failed.stderr.contains("  | what it said\n"), "{failed:?}");
    assert_eq!(layers(&folder).len(), 0);
    let slow = "[defaults]\ndeadlines = { layer-step = '300ms' }\n[images.i]\nrun = ['echo begun; sleep 1000']\n\
                [machines.m]\nimage = 'i'\n";
    folder.write("testbed.toml", slow);
    let failed = call(&folder, &["image", "build", "--verbose"]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.stderr.contains("within 0.3 s") && failed.stderr.contains("\nbegun\n"), "{failed:?}");
}

/// Packs a root file system with a shell in it: the archives `root.tar`, and `small.tar` without one.
const ROOT: &str = r#"
set -e
mkdir -p root/etc
echo first > root/etc/word
tar -C root -cf small.tar .
cp -L --parents /bin/sh /bin/cat $(ldd /bin/sh /bin/cat | grep -o '/[^ ]*' | sort -u | grep -v :) root/
tar -C root -cf root.tar .
"#;

/// The command, with a store in its folder and a file of it as input.
fn fed(folder: &Folder, arguments: &[&str], input: &str) -> Called {
    let store = folder.path().join("store");
    let input = std::fs::File::open(folder.path().join(input)).unwrap();
    Called::from(folder.command(arguments).env("TESTBED_CACHE", store).stdin(input).output().unwrap())
}

#[test]
fn an_imported_image_is_one_of_every_testbed() {
    let Some(_) = User::new() else { return };
    let folder = Folder::with(
        "[machines]\nm.image = 'appliance'\nn.image = 'on-it'\n\
         [images.on-it]\nbase = 'appliance'\nfiles = { '/etc/more' = { content = 'and more' } }\n\
         [[tests]]\nname = 'word'\non = 'm'\nrun = 'read -r word < /etc/word; test $word = first'\n\
         [[tests]]\nname = 'more'\non = 'n'\nrun = 'cat /etc/word /etc/more; exit 1'\n",
    );
    let unknown = call(&folder, &["check"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("no image `appliance`"), "{unknown:?}");
    assert!(!folder.path().join("store").exists(), "checking makes no store");

    let made = Command::new("sh").args(["-c", ROOT]).current_dir(folder.path()).status().unwrap();
    assert!(made.success());
    let imported = fed(&folder, &["image", "import", "appliance", "-"], "root.tar");
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(imported.text().starts_with("appliance: 1 layer, "), "{imported:?}");
    assert_eq!(call(&folder, &["check"]).code, Some(0));
    let plan = call(&folder, &["plan"]).text();
    assert!(plan.contains("the imported image appliance"), "{plan}");
    let ran = call(&folder, &["run"]);
    assert_eq!(
        (ran.word("word").as_deref(), ran.word("more").as_deref()),
        (Some("ok"), Some("FAIL")),
        "{ran:?}"
    );
    assert!(ran.text().contains("first\n") && ran.text().contains("and more"), "{ran:?}");

    let found = layers(&folder);
    let named = found.iter().find(|layer| layer["names"][0] == "appliance").unwrap();
    let text = call(&folder, &["image", "ls"]).text();
    assert!(
        text.lines().any(|line| line.contains(" appliance ") && line.contains("unpack standard input")),
        "{text}"
    );
    let key = named["key"].as_str().unwrap();
    let held = call(&folder, &["image", "rm", key]);
    assert_eq!(held.code, Some(3), "{held:?}");
    assert!(held.stderr.contains("`testbed image rm appliance`"), "{held:?}");
    assert_eq!(call(&folder, &["image", "prune"]).code, Some(0));
    assert_eq!(layers(&folder).len(), 1);

    // Another image comes in its place; what cannot be one leaves it alone.
    folder.write("bad.tar", "this is no archive");
    for (source, code) in [("bad.tar", 3), ("none.tar", 2)] {
        assert_eq!(call(&folder, &["image", "import", "appliance", source]).code, Some(code), "{source}");
    }
    assert_eq!(call(&folder, &["image", "import", "a/b", "small.tar"]).code, Some(2));
    let report = call(&folder, &["image", "import", "appliance", "small.tar", "--format", "json"]);
    let report: Value = serde_json::from_str(&report.text()).unwrap();
    assert_ne!(report["layers"][0], named["key"]);
    let unknown = call(&folder, &["image", "rm", "applianc"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("image ls"), "{unknown:?}");
    let gone = call(&folder, &["image", "rm", "appliance"]);
    assert_eq!((gone.code, gone.text().lines().next()), (Some(0), Some("appliance")), "{gone:?}");
    let after = call(&folder, &["check"]);
    assert_eq!(after.code, Some(2), "{after:?}");
}

#[test]
fn an_imported_image_in_use_stays() {
    let Some(_) = User::new() else { return };
    let folder = Folder::with(
        "[machines.m]\nimage = 'root'\n[[tests]]\nname = 't'\non = 'm'\nrun = 'read -r x < /dev/zero'\n",
    );
    let made = Command::new("sh").args(["-c", ROOT]).current_dir(folder.path()).status().unwrap();
    assert!(made.success());
    assert_eq!(call(&folder, &["image", "import", "root", "root.tar"]).code, Some(0));
    let store = folder.path().join("store");
    let mut running = folder.command(&["run"]).env("TESTBED_CACHE", store).spawn().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while layers(&folder)[0]["in_use"] != true {
        assert!(std::time::Instant::now() < end, "the layer of a running testbed is not in use");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let refused = call(&folder, &["image", "rm", "root"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.stderr.contains("is in use") && refused.stderr.contains("stop the testbeds"),
        "{refused:?}"
    );
    assert_eq!(layers(&folder)[0]["names"][0], "root");
    running.kill().unwrap();
    running.wait().unwrap();
}

/// Writes an OCI image with a shell in it, in the folder `image`.
const LAYOUT: &str = r#"
set -e
mkdir -p root/etc root/srv/app image/blobs/sha256
cp -L --parents /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') root/
echo 'app:x:1234:1234::/:/bin/sh' > root/etc/passwd
put() { name=$(sha256sum "$1" | cut -d' ' -f1); mv "$1" image/blobs/sha256/$name; }
refer() { echo '"digest":"sha256:'$name'","size":'$(stat -c %s image/blobs/sha256/$name); }
tar -C root -cf layer .; put layer; layer=$(refer)
echo '{"architecture":"amd64","os":"linux","config":{"Env":["SAID=by the image"],"WorkingDir":"/srv/app","User":"app"}}' > c
put c; config=$(refer)
echo '{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json",'$config'},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar",'$layer'}]}' > m
put m
echo '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",'$(refer)'}]}' > image/index.json
echo '{"imageLayoutVersion":"1.0.0"}' > image/oci-layout
"#;

#[test]
fn programs_begin_as_the_image_says() {
    let Some(_) = User::new() else { return };
    let test = |name: &str, script: &str| {
        format!("[[tests]]\nname = '{name}'\non = 'm'\nrun = '''\n{script}\n'''\n")
    };
    let uid = "while read -r key uid rest; do [ $key != Uid: ] || echo uid $uid; done < /proc/self/status";
    let folder = Folder::with(&format!(
        "[images.i]\nbase = './image'\n[machines.m]\nimage = 'i'\n{}",
        test("as it says", &format!("echo $SAID, $USER, $PWD; {uid}; exit 1"))
    ));
    let made = Command::new("sh").args(["-c", LAYOUT]).current_dir(folder.path()).status().unwrap();
    assert!(made.success());
    let called = call(&folder, &["run"]);
    let text = called.text();
    assert!(text.contains("by the image, app, /srv/app\n") && text.contains("uid 1234\n"), "{called:?}");
}
