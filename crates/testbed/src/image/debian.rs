//! Debian, built from packages by the host's own apt in a machine of ours.

use super::build::{Builder, Job, WayOut};
use super::key::Inputs;
use super::resolve::{Options, Report};
use super::sources::{self, Archive};
use crate::engine::hands::Hands;
use std::path::{Path, PathBuf};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The whole recipe; part of the key.
const SCRIPT: &str = include_str!("debian.sh");
/// What is installed beside what Debian calls essential.
const PACKAGES: &str = "apt ca-certificates";
/// The release that hosts without one of their own are asked about.
const NEWEST: &str = "trixie";
/// Where the root grows, inside the machine.
const ROOT: &str = "/target";
/// Debian's keys, by which apt verifies what it downloads.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// How a release will be made on this host.
pub(super) struct Recipe {
    codename: String,
    archives: Vec<Archive>,
    keyring: &'static str,
}

impl Recipe {
    /// Finds what this host offers.
    pub(super) fn find(codename: &str, options: &Options) -> Result<Recipe, Fault> {
        for program in ["usr/bin/apt-get", "usr/bin/dpkg-deb"] {
            if !Path::new("/").join(program).exists() {
                return Err(unsupported(codename, format!("this host has no /{program}")));
            }
        }
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
        let keyring = keyring
            .ok_or_else(|| unsupported(codename, "this host has no debian-archive-keyring".to_owned()))?;
        let archives = match &options.mirror {
            Some(uri) => vec![Archive { uri: uri.clone(), suite: codename.to_owned() }],
            None => {
                sources::for_release(&sources::of_host(Path::new("/"))?, codename, own_release().as_deref())
            }
        };
        if archives.is_empty() {
            return Err(unsupported(codename, "this host's apt has no source of Debian".to_owned()));
        }
        let plain =
            |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if let Some(odd) = archives.iter().find(|archive| !plain(&archive.uri)) {
            return Err(Fault::new(FaultKind::Invalid, format!("use the mirror {:?}", odd.uri)));
        }
        Ok(Recipe { codename: codename.to_owned(), archives, keyring })
    }

    pub(super) fn add_inputs(&self, inputs: &mut Inputs) {
        inputs.add(SCRIPT).add(PACKAGES).add(&self.codename).add(std::env::consts::ARCH);
        for archive in &self.archives {
            inputs.add(&archive.uri).add(&archive.suite);
        }
    }

    /// Builds it: afterwards `folder/upper` is the tree.
    pub(super) fn build(
        &self,
        folder: &Path,
        builder: &dyn Builder,
        options: &Options,
        report: &mut Report<'_, '_>,
        hands: &Hands,
    ) -> Result<(), Fault> {
        let sources: Vec<String> =
            self.archives.iter().map(|archive| format!("{} {}", archive.uri, archive.suite)).collect();
        let mut env = options.build_env.clone();
        for (name, value) in [
            ("ROOT", ROOT),
            ("CODENAME", self.codename.as_str()),
            ("SOURCES", sources.join("\n").as_str()),
            ("KEYRING", self.keyring),
            ("PACKAGES", PACKAGES),
        ] {
            env.push((name.to_owned(), value.to_owned()));
        }
        let program = ["/bin/sh", "-c", SCRIPT].map(str::to_owned);
        let job = Job {
            layers: &[],
            host: true,
            folder,
            program: &program,
            input: None,
            env: &env,
            network: Some(WayOut { site: &options.proxy, mirrors: &options.mirrors()? }),
            deadline: options.deadline(),
        };
        report.run(builder, &job, &format!("build debian:{}", self.codename))?;
        let (upper, tree): (PathBuf, PathBuf) = (folder.join("upper"), folder.join("tree"));
        let shown = upper.display().to_string();
        std::fs::rename(upper.join(ROOT.trim_start_matches('/')), &tree)
            .doing_to("take the tree from", &shown)?;
        hands.remove(&upper)?;
        std::fs::rename(&tree, &upper).doing_to("take the tree from", &shown)
    }
}

/// What this host's own release, or else the newest known, would be built from: its codename, and archives with suites.
///
/// # Errors
/// Why it cannot be built here.
pub(crate) fn archives(mirror: Option<&str>) -> Result<(String, Vec<String>), Fault> {
    let codename = own_release().unwrap_or_else(|| NEWEST.to_owned());
    let options = Options { mirror: mirror.map(str::to_owned), ..Options::default() };
    let recipe = Recipe::find(&codename, &options)?;
    let archives = recipe.archives.iter().map(|archive| format!("{} {}", archive.uri, archive.suite));
    Ok((codename, archives.collect()))
}

/// The host's own release, if it is a Debian (os-release(5)).
fn own_release() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let value = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once('='));
        fields.find(|(field, _)| *field == name).map(|(_, value)| value.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME")).flatten()
}

fn unsupported(codename: &str, why: String) -> Fault {
    Fault::new(FaultKind::Unsupported, format!("build debian:{codename}: {why}")).hint(format!(
        "give it as a file instead: `base = \"./{codename}.tar\"` (a root file system as tar, as debootstrap or \
         `docker export` make it), or a folder in OCI image layout (`skopeo copy docker://debian:{codename} oci:FOLDER`)"
    ))
}
