//! The command as an ordinary user of this host calls it.

use crate::call::Called;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A user that no host has, in nobody's group, with a home and the command where everybody may read it.
pub(crate) struct User {
    id: u32,
    home: PathBuf,
    ranges: Option<Ranges>,
}

/// A range of ids that no user of this host has, and the programs that map it.
struct Ranges {
    first: u32,
    programs: &'static Path,
}

/// As many as `useradd` gives.
const COUNT: u32 = 65536;

impl User {
    /// None where this process is not root, and so cannot become another.
    pub(crate) fn new() -> Option<User> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = 3_000_000_000 + std::process::id() % 1_000_000 * 100 + number;
        let home = std::env::temp_dir().join(format!("testbed-user-{id}"));
        std::fs::create_dir_all(&home).unwrap();
        // By another process: what is open for writing here would be open in whatever another test starts just now, and
        // could not be executed.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_testbed")).arg(home.join("testbed")).status();
        assert!(copied.unwrap().success());
        std::fs::set_permissions(home.join("testbed"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        chown(&home, Some(id), Some(id)).unwrap();
        Some(User { id, home, ranges: None })
    }

    /// A user with a range of ids, which `/etc/subuid` and `/etc/subgid` say, and with the programs that map them: in a
    /// mount namespace of the calls' own, because this host may have neither. None, loudly, where they cannot be had.
    pub(crate) fn with_ranges() -> Option<User> {
        let programs = programs()?;
        let mut user = User::new()?;
        // Above what users are given, below what root's machines get.
        let first = 0x2000_0000 + user.id % 1000 * COUNT;
        std::fs::create_dir(user.root()).unwrap();
        user.ranges = Some(Ranges { first, programs });
        Some(user)
    }

    /// Where the root file system of this user's calls is put together.
    fn root(&self) -> PathBuf {
        self.home.with_extension("root")
    }

    /// The ids of the host that are this user's, beside the own.
    pub(crate) fn range(&self) -> std::ops::Range<u32> {
        self.ranges.as_ref().map_or(0..0, |ranges| ranges.first..ranges.first + COUNT)
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Writes a file of the user's, in the home folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.home.join(name);
        std::fs::write(&path, text).unwrap();
        chown(&path, Some(self.id), Some(self.id)).unwrap();
    }

    /// Makes a folder of the user's, in the home folder.
    pub(crate) fn folder(&self, name: &str) {
        let path = self.home.join(name);
        std::fs::create_dir(&path).unwrap();
        chown(&path, Some(self.id), Some(self.id)).unwrap();
    }

    /// The processes of this user, in machines too.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let all = std::fs::read_dir("/proc").unwrap();
        let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mine = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
            let uid = uid.and_then(|uid| uid.parse().ok());
            uid.is_some_and(|uid| uid == self.id || self.range().contains(&uid))
        };
        all.filter(mine).collect()
    }

    /// Calls the command in the home folder.
    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        Called::from(self.command(arguments).output().unwrap())
    }

    /// Runs a text for a shell in the home folder.
    pub(crate) fn shell(&self, text: &str) -> Called {
        Called::from(self.program("/bin/sh", &["-c", text]).output().unwrap())
    }

    /// The command, about to be called in the home folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(self.home.join("testbed"), arguments)
    }

    fn program(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = match &self.ranges {
            None => {
                let mut command = Command::new(program);
                command.uid(self.id).gid(self.id).env_clear();
                command
            }
            Some(ranges) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", include_str!("ranges.sh"), "sh"]);
                command.arg(program).env_clear();
                command.env("ID", self.id.to_string()).env("NAME", format!("user{}", self.id));
                command.env("FIRST", ranges.first.to_string()).env("COUNT", COUNT.to_string());
                command.env("PROGRAMS", ranges.programs).env("TEMPORARY", std::env::temp_dir());
                command.env("FOLDER", self.root());
                command
            }
        };
        command.args(arguments).current_dir(&self.home).stdin(Stdio::null());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.home).env("NO_COLOR", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A folder with the programs that map ids where a root file system has them: Debian's, unpacked, and empty if this host
/// has them itself.
fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let get = || {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uidmap");
        let own = place.with_extension(std::process::id().to_string());
        let script = "command -v newuidmap || { apt-get -q download uidmap libsubid4 && \
                      for package in *.deb; do dpkg -x $package . && rm $package; done; }";
        if !place.exists() {
            std::fs::create_dir_all(&own).unwrap();
            let had = Command::new("sh").args(["-ec", script]).current_dir(&own).output().unwrap();
            if !had.status.success() {
                std::fs::remove_dir_all(&own).unwrap();
                cannot(&format!(
                    "ordinary users with ranges of ids: this host has no newuidmap, and Debian's package cannot be \
                     had: {}",
                    String::from_utf8_lossy(&had.stderr)
                ));
                return None;
            }
            // Another process may have been faster.
            if std::fs::rename(&own, &place).is_err() {
                std::fs::remove_dir_all(&own).unwrap();
            }
        }
        Some(place)
    };
    PROGRAMS.get_or_init(get).as_deref()
}

/// Says loudly what a test cannot do here; in strict runs that is a failure.
fn cannot(what: &str) {
    assert!(std::env::var_os("TESTBED_STRICT").is_none(), "cannot be tested here: {what}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
        let _ = std::fs::remove_dir(self.root());
    }
}
