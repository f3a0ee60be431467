//! Where the host's package manager takes Debian from (sources.list(5), both forms).

use std::io;
use std::path::{Path, PathBuf};
use testbed_agent::{Doing as _, Fault};

/// An entry for binary packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// One archive and one suite of it, for one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) uri: String,
    pub(super) suite: String,
}

/// The entries of a host, its root being this folder.
pub(super) fn of_host(root: &Path) -> Result<Vec<Source>, Fault> {
    let apt = root.join("etc/apt");
    let mut files = vec![apt.join("sources.list")];
    match apt.join("sources.list.d").read_dir() {
        Ok(entries) => {
            let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            parts.sort();
            files.extend(parts);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Fault::system("read", &error).at(apt.display().to_string())),
    }
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => lines,
            Some("sources") => paragraphs,
            _ => continue,
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => sources.extend(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => drop(other.doing_to("read", file.display().to_string())?),
        }
    }
    Ok(sources)
}

/// `deb [option=value …] uri suite component …`
fn lines(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(mut rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))
        else {
            continue;
        };
        rest = rest.trim_start();
        let mut signed_by = None;
        if let Some((options, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let mut options = options.split_whitespace().filter_map(|option| option.split_once('='));
            signed_by = options.find(|(name, _)| *name == "signed-by").map(|(_, value)| value.to_owned());
            rest = after;
        }
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        sources.push(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), signed_by });
    }
    sources
}

/// Paragraphs of `Field: value`, with continued lines (deb822(5)).
fn paragraphs(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn source(fields: &[(String, String)]) -> Option<Source> {
    let value = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let words = |name: &str| -> Vec<String> {
        value(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let enabled = !value("enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"));
    let binary = words("types").iter().any(|kind| kind == "deb");
    (enabled && binary).then(|| Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: value("signed-by").map(str::to_owned),
    })
}

/// What is no release, but always the newest: it has no archives of updates.
const ROLLING: [&str; 2] = ["sid", "unstable"];

/// The archives of a release of Debian, as the host's entries name them: those for the release itself, or those for
/// the host's own release with the names exchanged. Empty if the host has none.
pub(super) fn for_release(sources: &[Source], codename: &str, own: Option<&str>) -> Vec<Archive> {
    let of = |release: &str| -> Vec<Archive> {
        let mut found = Vec::new();
        for source in sources.iter().filter(|source| source.is_debian()) {
            for suite in &source.suites {
                let part = match suite.strip_prefix(release) {
                    Some("") => "",
                    Some(part @ ("-updates" | "-security")) if !ROLLING.contains(&codename) => part,
                    _ => continue,
                };
                let archives = source
                    .uris
                    .iter()
                    .take(1)
                    .map(|uri| Archive { uri: uri.clone(), suite: format!("{codename}{part}") });
                found.extend(archives.filter(|archive| !found.contains(archive)).collect::<Vec<_>>());
            }
        }
        found
    };
    let complete = |found: &Vec<Archive>| found.iter().any(|archive| archive.suite == codename);
    let exact = Some(of(codename)).filter(complete);
    exact.or_else(|| own.map(of).filter(complete)).unwrap_or_default()
}

/// All that the entries name.
pub(super) fn uris(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(|source| source.uris.iter().cloned()).collect()
}

impl Source {
    /// Signed by Debian's keys, or by whatever the host trusts; with Debian's main component.
    fn is_debian(&self) -> bool {
        let key = self.signed_by.as_deref().is_none_or(|key| key.contains("debian-archive"));
        key && self.components.iter().any(|component| component == "main")
            && self.uris.iter().all(|uri| uri.starts_with("http://") || uri.starts_with("https://"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "\
# comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
";
    const OLD: &str = "\
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/other.gpg] http://other.example/apt bookworm main
deb http://mirror.example/debian bookworm main contrib # comment
";

    fn archive(uri: &str, suite: &str) -> Archive {
        Archive { uri: uri.into(), suite: suite.into() }
    }

    #[test]
    fn both_forms_name_the_archives_of_a_release() {
        let sources = paragraphs(NEW);
        assert_eq!(
            for_release(&sources, "bookworm", None),
            [
                archive("http://mirror.example/debian", "bookworm"),
                archive("http://mirror.example/debian", "bookworm-updates"),
                archive("http://mirror.example/security", "bookworm-security"),
            ]
        );
        let sources = lines(OLD);
        assert_eq!(
            for_release(&sources, "bookworm", None),
            [archive("http://mirror.example/debian", "bookworm")]
        );
    }

    #[test]
    fn another_release_comes_from_where_the_own_one_does() {
        let sources = paragraphs(NEW);
        assert_eq!(for_release(&sources, "trixie", None), []);
        let found = for_release(&sources, "trixie", Some("bookworm"));
        assert_eq!(found[0], archive("http://mirror.example/debian", "trixie"));
        assert_eq!(found[2], archive("http://mirror.example/security", "trixie-security"));
        assert_eq!(for_release(&[], "trixie", Some("bookworm")), []);
        let newest = for_release(&sources, "sid", Some("bookworm"));
        assert_eq!(newest, [archive("http://mirror.example/debian", "sid")]);
    }
}
