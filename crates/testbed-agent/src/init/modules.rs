//! Modules of a machine's own kernel: those that the machine needs, and those that the kernel itself asks for.
//!
//! The lists beside the modules are depmod(8)'s: modules.dep(5), and `modules.alias` in the words of modprobe.d(5).

use super::guest::{is_own_program, mount, own_program};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// Where they are, in a folder for each release of the kernel.
const FOLDER: &str = "/lib/modules";
/// Those of the initial root, loaded in the order of their names.
const INITIAL: &str = "/modules";
/// Names the program that the kernel has load what it asks for (`Documentation/admin-guide/sysctl/kernel.rst`).
const LOADER: &str = "/proc/sys/kernel/modprobe";

/// Loads all that came along in the initial root.
pub(super) fn load_initial() -> Result<(), Fault> {
    let Ok(entries) = fs::read_dir(INITIAL) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().try_for_each(|path| insert(path))
}

/// Mounts the disk of modules where programs look for them.
pub(super) fn mount_disk(disk: &str) -> Result<(), Fault> {
    fs::create_dir_all(FOLDER).doing_to("make the folder", FOLDER)?;
    mount(disk, FOLDER, "erofs", MountFlags::RDONLY, "")
}

/// Has the kernel ask this program for modules, unless the image has one for it.
pub(super) fn serve_kernel() -> Result<(), Fault> {
    let loader = fs::read_to_string(LOADER).doing_to("read", LOADER)?;
    let loader = loader.trim_end();
    if !is_own_program(loader) && fs::exists(loader).unwrap_or(false) {
        return Ok(());
    }
    fs::write(LOADER, own_program()).doing_to("write", LOADER)
}

/// What the kernel calls to have something loaded: `-q -- NAME`, where the name is a module's or an alias.
pub(crate) fn load_for_kernel(arguments: &[OsString]) -> Result<(), Fault> {
    let name = arguments.last().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Fault::new(FaultKind::Invalid, "load no module"))?;
    let modules = Modules::read()?;
    if modules.knows(name) {
        return modules.load(name);
    }
    let aliases = modules.folder.join("modules.alias");
    let aliases = fs::read_to_string(&aliases).doing_to("read", aliases.to_string_lossy())?;
    let found: Vec<&str> = aliases.lines().filter_map(|line| aliased(line, name)).collect();
    if found.is_empty() {
        return Err(modules.missing(name));
    }
    found.into_iter().try_for_each(|module| modules.load(module))
}

/// Loads modules, each with those that it depends on.
pub(super) fn load(names: &[String]) -> Result<(), Fault> {
    let modules = Modules::read()?;
    names.iter().try_for_each(|name| modules.load(name))
}

/// The modules of the running kernel.
struct Modules {
    folder: PathBuf,
    /// Lines of `PATH: PATH PATH`: what a module needs, all of it, the last first.
    dependencies: String,
    /// Lines of paths: what is a part of the kernel.
    built_in: String,
}

impl Modules {
    fn read() -> Result<Modules, Fault> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new(FOLDER).join(release);
        let read = |name| {
            let path = folder.join(name);
            fs::read_to_string(&path).doing_to("read", path.to_string_lossy())
        };
        Ok(Modules { dependencies: read("modules.dep")?, built_in: read("modules.builtin")?, folder })
    }

    fn knows(&self, name: &str) -> bool {
        self.find(name).is_some() || self.has_built_in(name)
    }

    fn has_built_in(&self, name: &str) -> bool {
        self.built_in.lines().any(|path| is_called(path, name))
    }

    /// The path of a module, and those of all that it depends on.
    fn find(&self, name: &str) -> Option<(&str, &str)> {
        self.dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| is_called(path, name))
    }

    fn load(&self, name: &str) -> Result<(), Fault> {
        let Some((path, needed)) = self.find(name) else {
            return if self.has_built_in(name) { Ok(()) } else { Err(self.missing(name)) };
        };
        let all = needed.split_ascii_whitespace().rev().chain([path]);
        all.map(|path| self.folder.join(path)).try_for_each(|path| insert(&path))
    }

    fn missing(&self, name: &str) -> Fault {
        let release = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fault = Fault::new(
            FaultKind::Unsupported,
            format!("load the module `{name}`: the kernel {release} has none"),
        );
        fault.hint("`ls -R /lib/modules` on a machine with a kernel of its own shows those that there are")
    }
}

/// Whether the file at a path is this module's. The kernel takes `-` and `_` for the same here.
fn is_called(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().and_then(|file| file.split_once(".ko"));
    let even = |byte: u8| if byte == b'-' { b'_' } else { byte };
    file.is_some_and(|(file, _)| file.bytes().map(even).eq(name.bytes().map(even)))
}

/// The module that a line of `modules.alias` gives for a name, if the name fits it.
fn aliased<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split_ascii_whitespace();
    let (keyword, pattern, module) = (words.next()?, words.next()?, words.next()?);
    (keyword == "alias" && fits(pattern.as_bytes(), name.as_bytes())).then_some(module)
}

/// Whether a name fits a pattern in which `*` stands for any text, `?` for any byte, and `[…]` for one of those bytes
/// (fnmatch(3), as far as aliases go).
fn fits(mut pattern: &[u8], mut name: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let (rest, is_fit) = match pattern {
            [b'*', rest @ ..] => {
                retry = Some((rest, name));
                pattern = rest;
                continue;
            }
            [] if name.is_empty() => return true,
            [] => (pattern, false),
            [b'?', rest @ ..] => (rest, !name.is_empty()),
            [b'[', rest @ ..] => {
                let end = rest.iter().position(|byte| *byte == b']').unwrap_or(rest.len());
                let (set, after) = rest.split_at(end);
                (after.get(1..).unwrap_or_default(), name.first().is_some_and(|byte| is_among(set, *byte)))
            }
            [byte, rest @ ..] => (rest, name.first() == Some(byte)),
        };
        if is_fit {
            (pattern, name) = (rest, &name[1..]);
        } else if let Some((after, [_, shorter @ ..])) = retry {
            // The last `*` stands for a byte more.
            retry = Some((after, shorter));
            (pattern, name) = (after, shorter);
        } else {
            return false;
        }
    }
}

/// Whether a byte is in a set such as `0-9a`.
fn is_among(set: &[u8], byte: u8) -> bool {
    match set {
        [first, b'-', last, rest @ ..] => (*first..=*last).contains(&byte) || is_among(rest, byte),
        [one, rest @ ..] => *one == byte || is_among(rest, byte),
        [] => false,
    }
}

/// Gives a module to the kernel.
fn insert(path: &Path) -> Result<(), Fault> {
    let loaded = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::system::finit_module(&file, c"", 0));
    match loaded {
        // It is loaded already, or drives what this machine does not have.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV) => Ok(()),
        Err(error) => {
            Err(Fault::system("load the module", &io::Error::from(error)).at(path.to_string_lossy()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        Modules {
            folder: "/lib/modules/6.12.0".into(),
            dependencies: "kernel/net/802/garp.ko: kernel/net/802/stp.ko\n\
                           kernel/net/8021q/8021q.ko: kernel/net/802/garp.ko kernel/net/802/stp.ko\n\
                           kernel/net/sched/sch_netem.ko.xz:\n"
                .into(),
            built_in: "kernel/net/ipv4/ip-tunnel.ko\n".into(),
        }
    }

    #[test]
    fn modules_are_found_by_their_names() {
        let modules = modules();
        let found = Some(("kernel/net/8021q/8021q.ko", " kernel/net/802/garp.ko kernel/net/802/stp.ko"));
        assert_eq!(modules.find("8021q"), found);
        assert_eq!(modules.find("sch-netem"), Some(("kernel/net/sched/sch_netem.ko.xz", "")));
        assert_eq!(modules.find("8021"), None);
        assert!(modules.has_built_in("ip_tunnel") && modules.load("ip_tunnel").is_ok());
    }

    #[test]
    fn what_no_kernel_has_is_told() {
        let fault = modules().load("8022q").unwrap_err();
        assert_eq!(fault.operation, "load the module `8022q`: the kernel 6.12.0 has none");
    }

    #[test]
    fn aliases_are_patterns() {
        assert_eq!(aliased("alias nft-chain-2-nat nft_chain_nat", "nft-chain-2-nat"), Some("nft_chain_nat"));
        assert_eq!(aliased("alias nft-chain-2-nat nft_chain_nat", "nft-chain-2-na"), None);
        assert_eq!(aliased("# Aliases extracted from modules themselves.", "Aliases"), None);
        let pci = b"pci:v00001AF4d*sv*sd*bc0[1-3]sc?i*";
        assert!(fits(pci, b"pci:v00001AF4d00001041sv00sdd0bc02sc9i00"));
        assert!(!fits(pci, b"pci:v00001AF4d00001041sv00sdd0bc04sc9i00"));
        assert!(fits(b"*a*ab", b"aaab") && !fits(b"*a*ab", b"aab0") && fits(b"**", b""));
        assert!(!fits(b"?", b"") && !fits(b"[a", b"b") && fits(b"[a", b"a"));
    }
}
