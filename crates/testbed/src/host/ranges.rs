//! The ids that an ordinary user has beside the own: subuid(5), subgid(5), and the programs that map them.

use super::{own_account, range};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testbed_agent::launch::IDS;
use testbed_agent::{Doing as _, Fault, FaultKind};

/// Where distributions put programs that are run with root's rights.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// What is there of what ranges need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// First ids and how many, as `/etc/subuid` has them for this user.
    pub(crate) users: Vec<(u32, u32)>,
    /// The same of `/etc/subgid`.
    pub(crate) groups: Vec<(u32, u32)>,
    /// Where the programs are, newuidmap(1) and newgidmap(1).
    pub(crate) programs: [Option<PathBuf>; 2],
}

pub(crate) const PROGRAMS: [&str; 2] = ["newuidmap", "newgidmap"];

impl Ranges {
    /// Looks for those of this user.
    pub(crate) fn of_this_user() -> Ranges {
        let uid = rustix::process::getuid().as_raw();
        let account = own_account();
        let name = account.as_ref().and_then(|fields| fields.first()).map(String::as_str);
        let read = |file: &str| given(&fs::read_to_string(file).unwrap_or_default(), name, uid);
        // The programs want to know the user's name.
        let programs = if account.is_some() { PROGRAMS.map(program) } else { [None, None] };
        Ranges { users: read("/etc/subuid"), groups: read("/etc/subgid"), programs }
    }

    /// How many ids machines can have, root's among them; none if that is only root.
    pub(crate) fn count(&self) -> Option<u32> {
        let sum = |ranges: &[(u32, u32)]| ranges.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        let beside = sum(&self.users).min(sum(&self.groups)).min(u64::from(IDS - 1)) as u32;
        (beside > 0 && self.programs.iter().all(Option::is_some)).then_some(beside + 1)
    }

    /// Maps the ids of a process that this user has started, and that is in a new user namespace: root inside is the
    /// user.
    ///
    /// # Errors
    /// What the programs say.
    pub(crate) fn map(&self, process: u32) -> Result<(), Fault> {
        let count = self.count().ok_or_else(|| Fault::new(FaultKind::Unsupported, "map ids"))?;
        let own = [rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()];
        let all = self.programs.iter().flatten().zip(own).zip([&self.users, &self.groups]);
        let running = all.map(|((program, own), ranges)| {
            let mut command = Command::new(program);
            command.arg(process.to_string()).args(map(own, ranges, count).iter().map(u32::to_string));
            command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let shown = program.display().to_string();
            Ok((command.spawn().doing_to("map ids with", &shown)?, shown))
        });
        // Both at once; each is waited for, whatever the other says.
        let running: Vec<Result<(Child, String), Fault>> = running.collect();
        let ended: Vec<Result<(), Fault>> = running
            .into_iter()
            .map(|started| started.and_then(|(child, shown)| end(child, &shown)))
            .collect();
        ended.into_iter().collect()
    }
}

fn end(mut child: Child, shown: &str) -> Result<(), Fault> {
    let mut said = String::new();
    if let Some(errors) = child.stderr.take() {
        // It says one line, or nothing; what is not text is not worth telling.
        let _ = errors.take(4096).read_to_string(&mut said);
    }
    let status = child.wait().doing_to("map ids with", shown)?;
    if status.success() {
        return Ok(());
    }
    let said = said.trim();
    Err(Fault::new(FaultKind::System, format!("map ids: {}", if said.is_empty() { "refused" } else { said }))
        .at(shown))
}

/// Arguments of newuidmap(1): inside, outside, count; again and again.
fn map(own: u32, ranges: &[(u32, u32)], count: u32) -> Vec<u32> {
    let mut arguments = vec![0, own, 1];
    let mut inside = 1;
    for (first, length) in ranges {
        let length = (*length).min(count - inside);
        if length == 0 {
            break;
        }
        arguments.extend([inside, *first, length]);
        inside += length;
    }
    arguments
}

/// Which ranges a file gives to a user, by name or number. Ids that no process can have are left out.
fn given(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let owned = text.lines().filter(|line| {
        let owner = line.split(':').next();
        owner.is_some() && (owner == name || owner == Some(number.as_str()))
    });
    let ranges = owned.filter_map(range).filter_map(|(first, end)| {
        let end = end.min(u64::from(u32::MAX));
        Some((u32::try_from(first).ok()?, u32::try_from(end.checked_sub(first)?).ok()?))
    });
    ranges.filter(|(_, count)| *count > 0).collect()
}

/// A program that runs as root whoever starts it, or has the capability to map ids.
fn program(name: &str) -> Option<PathBuf> {
    let is_usable = |path: &Path| {
        let Ok(metadata) = path.metadata() else { return false };
        let set_user = metadata.uid() == 0 && metadata.permissions().mode() & 0o4000 != 0;
        set_user || rustix::fs::getxattr(path, "security.capability", &mut [0_u8; 64][..]).is_ok()
    };
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| is_usable(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "alice:100000:65536\nbob:165536:1000\n1001:200000:500\nbob:300000:70000\nbroken\ncarl:1:0\n";

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        assert_eq!(given(FILE, Some("alice"), 1000), [(100_000, 65_536)]);
        assert_eq!(given(FILE, Some("bob"), 1001), [(165_536, 1000), (200_000, 500), (300_000, 70_000)]);
        assert_eq!(given(FILE, None, 1001), [(200_000, 500)]);
        assert_eq!(given(FILE, Some("carl"), 7), []);
        assert_eq!(given("eve:4294967290:100\neve:99999999999:5\n", Some("eve"), 7), [(4_294_967_290, 5)]);
    }

    #[test]
    fn root_inside_is_the_user_and_the_others_come_from_the_ranges() {
        let programs = [Some(PathBuf::from("/u")), Some(PathBuf::from("/g"))];
        let users = given(FILE, Some("bob"), 1001);
        let ranges = Ranges { users: users.clone(), groups: vec![(7, 1300)], programs };
        let count = ranges.count().unwrap();
        assert_eq!(count, 1301, "as many as there are of both");
        assert_eq!(map(1001, &users, count), [0, 1001, 1, 1, 165_536, 1000, 1001, 200_000, 300]);
        assert_eq!(map(1001, &ranges.groups, count), [0, 1001, 1, 1, 7, 1300]);
        let large = Ranges { groups: users.clone(), ..ranges.clone() };
        assert_eq!(large.count(), Some(IDS), "no more than machines have");
        assert_eq!(map(5, &users, IDS).chunks(3).map(|part| part[2]).sum::<u32>(), IDS);
        let without = Ranges { programs: [None, Some("/g".into())], ..ranges };
        assert_eq!(without.count(), None);
    }
}
