//! Files of a root by which machines know themselves apart: those that the image has become the machine's own.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use testbed_agent::agent::Identity;
use testbed_agent::{Doing as _, Fault};

/// Where a machine's number may be, and that of D-Bus, which is another name for it where it is a link.
const MACHINE_IDS: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];
/// Where systemd-journald(8) keeps journals.
const JOURNALS: [&str; 2] = ["run/log/journal", "var/log/journal"];
/// Where sshd looks for its keys (sshd_config(5), `HostKey`).
const SSH: &str = "etc/ssh";

/// Puts an identity into the files of a root.
pub(super) fn put(identity: &Identity, root: &Path) -> Result<(), Fault> {
    keep_journals(identity, root)?;
    for path in MACHINE_IDS {
        let path = root.join(path);
        if path.symlink_metadata().is_ok_and(|about| about.is_file()) {
            let number = identity.machine_id.clone() + "\n";
            fs::write(&path, number).doing_to("write", path.to_string_lossy())?;
        }
    }
    let folder = root.join(SSH);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Fault::system("list", &error).at(folder.to_string_lossy())),
    };
    let mut had_keys = false;
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub")) {
            had_keys = true;
            fs::remove_file(entry.path()).doing_to("remove", entry.path().to_string_lossy())?;
        }
    }
    if had_keys {
        let (private, public) = &identity.host_key;
        write(&folder.join("ssh_host_ed25519_key"), 0o600, private)?;
        write(&folder.join("ssh_host_ed25519_key.pub"), 0o644, public)?;
    }
    Ok(())
}

/// Journals of systemd lie in folders named by the machine's number, and whoever reads them looks there.
fn keep_journals(identity: &Identity, root: &Path) -> Result<(), Fault> {
    let Ok(before) = fs::read_to_string(root.join(MACHINE_IDS[0])) else { return Ok(()) };
    let before = before.trim_end();
    for folder in JOURNALS.map(|folder| root.join(folder)) {
        if before.len() == identity.machine_id.len() && folder.join(before).is_dir() {
            let renamed = fs::rename(folder.join(before), folder.join(&identity.machine_id));
            renamed.doing_to("rename", folder.to_string_lossy())?;
        }
    }
    Ok(())
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), Fault> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .doing_to("write", path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::harness;

    fn identity() -> Identity {
        Identity { machine_id: "0".repeat(32), host_key: ("private".into(), "public".into()) }
    }

    #[test]
    fn only_what_the_image_has_is_replaced() {
        let folder = harness::folder();
        let root = Path::new(&folder.path("")).to_owned();
        put(&identity(), &root).unwrap();
        assert!(root.read_dir().unwrap().next().is_none());

        fs::create_dir_all(root.join(SSH)).unwrap();
        for name in ["ssh_host_rsa_key", "ssh_host_rsa_key.pub", "ssh_host_ed25519_key", "sshd_config"] {
            fs::write(root.join(SSH).join(name), "of the image").unwrap();
        }
        fs::write(root.join("etc/machine-id"), "of the image").unwrap();
        put(&identity(), &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("etc/machine-id")).unwrap(), "0".repeat(32) + "\n");
        // The last number was that of the journal too.
        let journal = root.join(JOURNALS[0]);
        fs::create_dir_all(journal.join("0".repeat(32))).unwrap();
        let other = Identity { machine_id: "1".repeat(32), ..identity() };
        put(&other, &root).unwrap();
        assert!(journal.join("1".repeat(32)).is_dir() && !journal.join("0".repeat(32)).exists());

        let mut names: Vec<_> = root.join(SSH).read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "sshd_config"]);
        assert_eq!(fs::read_to_string(root.join("etc/ssh/ssh_host_ed25519_key")).unwrap(), "private");
    }
}
