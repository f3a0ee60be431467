//! Machines of an ordinary user who has a range of ids.

use crate::ordinary::{ends_with_its_keeper, passes, test};
use crate::user::User;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The owners of all in a folder, that itself included.
fn owners(folder: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([folder.symlink_metadata().unwrap().uid()]);
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        found.insert(metadata.uid());
        if metadata.is_dir() {
            found.append(&mut owners(&path));
        }
    }
    found
}

fn store(user: &User) -> std::path::PathBuf {
    user.home().join(".cache/testbed")
}

#[test]
fn services_and_files_may_belong_to_other_users() {
    let Some(user) = User::with_ranges() else { return };
    user.folder("shared");
    let machines = "[machines.m]\nmounts = { '/code' = { source = 'shared', writable = true } }\n\
                    files = { '/srv/page' = { content = 'x', owner = 'www-data' } }\n\
                    [machines.m.services]\nother = { run = 'id -u; exec sleep 1000', user = 'www-data' }\n";
    passes(
        &user,
        machines,
        &[
            test(
                "a service",
                "m",
                "until pid=$(pgrep -fx 'sleep 1000'); do sleep 0.01; done; test \"$(stat -c %u /proc/$pid)\" = 33",
            ),
            test(
                "owners",
                "m",
                "touch /srv/a /tmp/a; chown 33:60000 /srv/a /tmp/a; test \"$(stat -c %u:%g /srv/a)\" = 33:60000
                 test \"$(stat -c %U /srv/page)\" = www-data",
            ),
            test("other users", "m", "test \"$(setpriv --reuid 33 --regid 33 --clear-groups id -u)\" = 33"),
            test("su", "m", "test \"$(su -s /bin/sh -c 'id -u' www-data)\" = 33"),
            test("new users", "m", "useradd -m eve; test \"$(su -c pwd - eve)\" = /home/eve"),
            test("owners of the host", "m", "test \"$(stat -c %U:%G /var/mail)\" = root:mail"),
            test("locked accounts stay locked", "m", "test \"$(stat -c %a:%G /etc/shadow)\" = 640:shadow"),
            test("no more than that", "m", "! chown 65536 /srv 2>/dev/null; grep -qw 65535 /proc/self/uid_map"),
            test("live mounts", "m", "echo x > /code/root; echo x > /code/other; chown 33 /code/other"),
        ],
    );
    let owner = |name: &str| user.home().join("shared").join(name).metadata().unwrap().uid();
    assert_eq!(owner("root"), user.id());
    assert_eq!(owner("other"), user.range().start + 32);
}

#[test]
fn layers_hold_other_owners_and_go_again() {
    let Some(user) = User::with_ranges() else { return };
    user.write("text", "from the host\n");
    let machines = "[images.b]\nrun = ['mkdir -m 700 /srv/x; echo y > /srv/x/y; chown -R 33:33 /srv/x']\n\
                    [images.i]\nbase = 'b'\nfiles = { '/srv/x/w' = { source = 'text', owner = 'www-data:www-data', mode = '0600' } }\n\
                    [machines.m]\nimage = 'i'\n";
    let seen = test(
        "seen",
        "m",
        "test \"$(stat -c %u:%g:%a /srv/x /srv/x/y /srv/x/w | tr '\\n' ' ')\" = '33:33:700 33:33:644 33:33:600 '",
    );
    passes(&user, machines, std::slice::from_ref(&seen));
    let called = user.call(&["run"]);
    assert_eq!((called.code, called.stderr.as_str()), (Some(0), ""), "the layers were built a second time");
    let layers = store(&user).join("layers");
    assert!(owners(&layers).contains(&(user.range().start + 32)), "{:?}", owners(&layers));
    let gone = user.call(&["image", "prune"]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert_eq!(layers.read_dir().unwrap().count(), 0, "{gone:?}");
    assert_eq!(store(&user).join("tmp").read_dir().unwrap().count(), 0);
}

#[test]
fn archives_keep_their_owners() {
    let Some(user) = User::with_ranges() else { return };
    let script = "mkdir -p t/srv/private && cp /bin/busybox t/ 2>/dev/null || :
                  mkdir -p t/bin && cp /usr/bin/stat /usr/bin/dash t/bin/ && ln -s dash t/bin/sh
                  for l in $(ldd t/bin/stat t/bin/dash | grep -o '/[^ ]*\\.so[^ ]*'); do mkdir -p t$(dirname $l); cp -L $l t$l; done
                  echo x >t/srv/private/file && chmod 700 t/srv/private && chown -R 33:34 t/srv/private
                  tar -C t -cf tree.tar . && rm -r t && chmod 644 tree.tar";
    let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(user.home()).status();
    assert!(made.unwrap().success());
    let machines = "[images.i]\nbase = './tree.tar'\nfiles = { '/srv/private/new' = { content = 'x', owner = '33' } }\n\
                    [machines.m]\nimage = 'i'\n";
    let seen = "for f in /srv/private /srv/private/file; do test $(stat -c %u:%g $f) = 33:34; done
                test $(stat -c %u /srv/private/new) = 33; test $(stat -c %u /bin/sh) = 0";
    passes(&user, machines, &[test("owners", "m", seen)]);
}

#[test]
fn snapshots_hold_other_owners() {
    let Some(user) = User::with_ranges() else { return };
    user.write("testbed.toml", "[machines.m]\n");
    let ok = |arguments: &[&str]| {
        let called = user.call(arguments);
        assert_eq!(called.code, Some(0), "{arguments:?}: {called:?}");
        called.text()
    };
    ok(&["up"]);
    ok(&["exec", "m", "--", "sh", "-ec", "mkdir -m 700 /srv/x; echo y > /srv/x/y; chown -R 33 /srv/x"]);
    ok(&["stop", "m"]);
    ok(&["start", "m"]);
    assert_eq!(ok(&["exec", "m", "--", "stat", "-c", "%u", "/srv/x/y"]), "33\n");
    let changes = ok(&["changes", "m"]);
    assert!(changes.contains("/srv/x"), "{changes}");
    ok(&["down"]);
}

#[test]
fn nothing_is_left_when_the_keeper_is_killed() {
    let Some(user) = User::with_ranges() else { return };
    let run = "setpriv --reuid 33 --regid 33 --clear-groups setsid sleep 1000 & sleep 1000";
    user.write("testbed.toml", &format!("[machines.m]\n{}", test("long", "m", run)));
    // The launcher, an agent, the shell and its two sleepers.
    ends_with_its_keeper(&user, 5);
}

#[test]
fn the_doctor_finds_the_range() {
    let Some(user) = User::with_ranges() else { return };
    let told = user.call(&["doctor"]).text();
    assert!(told.contains("who is root in machines, and 65535 more"), "{told}");
}
