//! Machines of an ordinary user, made without any right of root's.

use crate::stays::eventually;
use crate::user::User;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

/// Two machines on a network, and what each is asked.
const NETWORK: &str = r#"
[networks]
lan = { subnet = "10.1.0.0/24" }
[defaults]
image = "host"
[machines.a]
interfaces = { lan = "10.1.0.1" }
services = { web = "cd /etc && exec python3 -m http.server 80" }
ready = { port = 80 }
files = { "/etc/site.conf" = { content = "word\n" } }
mounts = { "/code" = { source = "shared", writable = true } }
[machines.b]
interfaces = { lan = "10.1.0.2" }
depends = ["a"]
"#;

pub(crate) fn test(name: &str, on: &str, run: &str) -> String {
    format!("[[tests]]\nname = '{name}'\non = '{on}'\nrun = '''\nset -e\n{run}\n'''\n")
}

/// Runs tests, all of which must pass.
pub(crate) fn passes(user: &User, machines: &str, tests: &[String]) {
    user.write("testbed.toml", &format!("{machines}\n{}", tests.concat()));
    let called = user.call(&["run"]);
    assert_eq!(called.code, Some(0), "{}\n{}", called.text(), called.stderr);
}

/// Kills a run as soon as it has so many processes, and waits until none of them is left.
pub(crate) fn ends_with_its_keeper(user: &User, processes: usize) {
    let mut keeper = user.command(&["run"]).spawn().unwrap();
    let command = keeper.id();
    let living = || user.processes().into_iter().filter(|pid| *pid != command).count();
    eventually("its processes live", || living() >= processes);
    keeper.kill().unwrap();
    eventually("all have ended", || living() == 0);
    keeper.wait().unwrap();
}

#[test]
fn networks_services_files_and_mounts_work() {
    let Some(user) = User::new() else { return };
    user.folder("shared");
    passes(
        &user,
        NETWORK,
        &[
            test("neighbours", "b", "test \"$(getent hosts a | cut -d' ' -f1)\" = 10.1.0.1"),
            test(
                "a service",
                "b",
                "python3 -c 'import urllib.request as u; assert u.urlopen(\"http://a/site.conf\").read() == b\"word\\n\"'",
            ),
            test("root inside", "a", "test $(id -u) = 0; echo made > /code/made; chmod 600 /code/made"),
            test(
                "devices",
                "a",
                "echo x > /dev/null; test $(head -c 5 /dev/urandom | wc -c) = 5; test -t 0 || :",
            ),
        ],
    );
    let made = user.home().join("shared/made").metadata().unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (user.id(), 0o600));
}

#[test]
fn the_hosts_files_can_be_changed_inside_and_stay_as_they_are() {
    let Some(user) = User::new() else { return };
    let before = std::fs::read("/etc/passwd").unwrap();
    passes(
        &user,
        "[machines.m]\n",
        &[
            test(
                "files",
                "m",
                "echo 'x:x:7:7::/:/bin/sh' >> /etc/passwd; grep -q ^x: /etc/passwd; getent passwd x",
            ),
            test(
                "new files",
                "m",
                "touch /usr/bin/new /usr/share/new /var/lib/new /opt/new /srv/new /root/new",
            ),
            test("folders", "m", "mkdir -p /etc/a/b /usr/lib/x/y; mv /etc/a /etc/c; test -d /etc/c/b"),
            test(
                "removal",
                "m",
                "rm /etc/passwd; test ! -e /etc/passwd; rm /usr/bin/env; test ! -e /usr/bin/env",
            ),
            test(
                "fresh",
                "m",
                "test ! -e /usr/bin/new; test ! -e /etc/c; test -e /etc/passwd; ! grep ^x: /etc/passwd",
            ),
        ],
    );
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), before);
    assert!(!std::fs::exists("/usr/bin/new").unwrap());
}

#[test]
fn what_is_private_is_not_seen() {
    let Some(user) = User::new() else { return };
    user.write("secret", "of this user");
    let home = user.home().display();
    let tmp = std::env::temp_dir().display().to_string();
    passes(
        &user,
        "[machines.m]\n",
        &[
            test("accounts are locked", "m", "! cut -d: -f2 /etc/shadow | grep -v '^\\*$'"),
            test("no homes", "m", &format!("test ! -e {home}; test -z \"$(find /root /home {tmp} -mindepth 1)\"")),
            test("no logs, no sockets", "m", "test -z \"$(find /run /var/log -mindepth 1)\"; test -z \"$(find /var /etc -type s)\""),
            test("no keys", "m", "test -z \"$(find /etc /var /opt -name '*_key')\"; test -z \"$(find /etc/ssl/private -mindepth 1)\""),
            test(
                "nothing of the agent",
                "m",
                "for what in 'cat /proc/1/maps' 'ls /proc/1/fd' 'readlink /proc/1/exe' 'cat /proc/1/environ' 'ls /proc/1/root/'; do
                     test -z \"$($what 2>/dev/null)\"
                 done",
            ),
            test(
                "nor under what is mounted",
                "m",
                "for folder in /etc /var /opt /dev/null; do umount -l $folder; done
                 test ! -e /etc/ssh/ssh_host_ed25519_key; test -z \"$(find /root /home -mindepth 1)\"; ! test -s /dev/null",
            ),
            test("no devices", "m", "! mknod /dev/x b 8 0 2>/dev/null; ! mount /dev/vda /mnt 2>/dev/null"),
        ],
    );
}

#[test]
fn layers_are_built_and_used() {
    let Some(user) = User::new() else { return };
    let machines = "[images.i]\nrun = ['mkdir -p /srv/x; echo y > /srv/x/y; echo z > /etc/z; rm /etc/issue']\n\
                    files = { '/etc/w' = { content = 'w' } }\n[machines.m]\nimage = 'i'\n";
    let seen = test("seen", "m", "grep y /srv/x/y; grep z /etc/z; grep w /etc/w; test ! -e /etc/issue");
    passes(&user, machines, &[seen]);
    let called = user.call(&["run"]);
    assert_eq!((called.code, called.stderr.as_str()), (Some(0), ""), "the layers were built a second time");
}

#[test]
fn images_are_imported_and_used() {
    let Some(user) = User::new() else { return };
    let made = "mkdir -p root/etc && echo word > root/etc/word && \
                cp -L --parents /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*' | sort -u | grep -v :) root/ && \
                tar -C root -cf root.tar .";
    let made = user.shell(made);
    assert_eq!(made.code, Some(0), "{made:?}");
    for source in ["root.tar", "root"] {
        let imported = user.call(&["image", "import", "mine", source]);
        assert_eq!(imported.code, Some(0), "{imported:?}");
        let seen = test("seen", "m", "read -r word < /etc/word; test $word = word");
        passes(&user, "[machines.m]\nimage = 'mine'\n", &[seen]);
    }
    let removed = user.call(&["image", "rm", "mine"]);
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(user.call(&["check"]).code, Some(2));
}

#[test]
fn what_cannot_be_done_is_told_with_the_way_out() {
    let Some(user) = User::new() else { return };
    for (machines, fault, hint) in [
        ("[machines.m]\nlimits = { memory = '64M' }\n", "m: limit memory", "testbed doctor"),
        (
            "[machines.m]\n[images.i]\nrun = ['chown 33 /etc/issue']\n[machines.n]\nimage = 'i'\n",
            "ended with status 1",
            "have one id",
        ),
    ] {
        user.write("testbed.toml", &format!("{machines}{}", test("t", "m", "true")));
        let started = Instant::now();
        let called = user.call(&["run"]);
        let said = called.text() + &called.stderr;
        assert_eq!(called.code, Some(3), "{said}");
        assert!(said.contains(fault) && said.contains(hint), "{said}");
        assert!(started.elapsed() < Duration::from_secs(4), "it waited for what will not come: {said}");
    }
}

#[test]
fn nothing_is_left_when_the_keeper_is_killed() {
    let Some(user) = User::new() else { return };
    user.write("testbed.toml", &format!("{NETWORK}{}", test("long", "b", "setsid sleep 1000 & sleep 1000")));
    user.folder("shared");
    // The launcher, two agents, the service, the shell and its two sleepers.
    ends_with_its_keeper(&user, 7);
}

#[test]
fn a_machine_drives_another() {
    let Some(user) = User::new() else { return };
    let sum = "sha256sum </run/testbed/bin/testbed";
    passes(
        &user,
        "[machines.driver]\ncontrol = true\n[machines.other]\ncontrol = true\n",
        &[
            test("words", "driver", "test \"$(testbed exec other -- hostname)\" = other; testbed status"),
            test(
                "nobody can change the command",
                "driver",
                &format!(
                    "before=$({sum}); ! mount -o remount,rw /run/testbed/bin; mount -o remount,bind,rw /run/testbed/bin || :
                     ! echo x >/run/testbed/bin/testbed; ! rm /run/testbed/bin/testbed; ! touch /run/testbed/bin/new
                     test \"$before\" = \"$({sum})\"; test \"$before\" = \"$(testbed exec other -- sh -c \"{sum}\")\""
                ),
            ),
        ],
    );
}
