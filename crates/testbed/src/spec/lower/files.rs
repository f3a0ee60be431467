use super::Checker;
use super::section::Section;
use crate::spec::files::FileKind;
use crate::spec::model::{FileContent, FileEntry, Mount};
use crate::spec::name::nearest;
use crate::spec::problem::{Place, Problem, ProblemKind, quoted};
use crate::spec::raw::Value;
use std::path::PathBuf;

/// Where a machine's own system lies, so that nothing of the user's can.
const SYSTEM: [&str; 4] = ["/proc", "/sys", "/dev", "/run/testbed"];

impl Checker<'_> {
    /// The `files` of a machine or an image.
    pub(super) fn file_entries(&mut self, section: &Section<'_>) -> Vec<FileEntry> {
        let mut files = Vec::new();
        let mut places = Vec::new();
        for entry in section.entries("files") {
            let target = self.target(&entry.key, &entry.at);
            let file = section.item("files", &entry.value);
            let content = match entry.value.as_text() {
                Some(source) => {
                    self.existing(source, &entry.value.place).map(|(path, _)| FileContent::Source(path))
                }
                None => self.file_content(&file, &entry.at),
            };
            let (mode, owner) = match entry.value.value {
                Value::Table(_) => (self.mode(&file), self.user(&file, "owner")),
                _ => (None, None),
            };
            let (Some(target), Some(content)) = (target, content) else { continue };
            places.push((target.clone(), &entry.at));
            files.push(FileEntry { target, content, mode, owner });
        }
        self.unique("target", places.iter().map(|(target, place)| (target.as_str(), *place)));
        files
    }

    fn file_content(&mut self, file: &Section<'_>, at: &Place) -> Option<FileContent> {
        match (file.text("source"), file.text("content")) {
            (Some((source, place)), None) => {
                self.existing(source, place).map(|(path, _)| FileContent::Source(path))
            }
            (None, Some((text, _))) => Some(FileContent::Text(text.to_owned())),
            (Some(_), Some((_, place))) => {
                self.error(ProblemKind::Misfit, place, "a file has a `source` or a `content`, not both");
                None
            }
            (None, None) => {
                if !file.has("source") && !file.has("content") {
                    let problem = Problem::error(
                        ProblemKind::MissingKey,
                        at,
                        "the file has neither `source` nor `content`",
                    );
                    self.report(problem.help("write the path of a source, or { content = \"text\" }"));
                }
                None
            }
        }
    }

    fn mode(&mut self, file: &Section<'_>) -> Option<u32> {
        let (text, place) = file.text("mode")?;
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
        if mode.is_none() {
            let problem =
                Problem::error(ProblemKind::BadValue, place, format!("{} is not a file mode", quoted(text)));
            self.report(problem.help("write permission bits in octal: \"0644\""));
        }
        mode
    }

    pub(super) fn mounts(&mut self, section: &Section<'_>) -> Vec<Mount> {
        let mut mounts = Vec::new();
        let mut places = Vec::new();
        for entry in section.entries("mounts") {
            let target = self.target(&entry.key, &entry.at);
            let table = section.item("mounts", &entry.value);
            let (source, writable, owner) = match entry.value.as_text() {
                Some(source) => (Some((source, &entry.value.place)), false, None),
                None => {
                    if !table.has("source") {
                        let problem =
                            Problem::error(ProblemKind::MissingKey, &entry.at, "the mount has no `source`");
                        self.report(problem.help("write the path of a file or folder of the host"));
                    }
                    (table.text("source"), table.flag("writable"), self.owner(&table))
                }
            };
            let source = source.and_then(|(source, place)| self.existing(source, place));
            let (Some(target), Some((source, _))) = (target, source) else { continue };
            places.push((target.clone(), &entry.at));
            mounts.push(Mount { source, target, writable, owner });
        }
        self.unique("mount", places.iter().map(|(target, place)| (target.as_str(), *place)));
        mounts
    }

    fn owner(&mut self, mount: &Section<'_>) -> Option<(u32, u32)> {
        let (text, place) = mount.text("owner")?;
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        // The highest number means "no user" to the kernel.
        let number = |part: &str| {
            part.parse::<u32>().ok().filter(|number| *number != u32::MAX && !part.starts_with('+'))
        };
        let owner = number(user).zip(number(group));
        if owner.is_none() {
            let problem =
                Problem::error(ProblemKind::BadValue, place, format!("{} is not an owner", quoted(text)));
            self.report(
                problem
                    .help("write the host's user, or user and group, in numbers: \"1000\" or \"1000:1000\""),
            );
        }
        owner
    }

    /// A path inside a machine: absolute, and not where the machine's own system lies. Empty and `.` parts go.
    pub(super) fn target(&mut self, text: &str, place: &Place) -> Option<String> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let plain = format!("/{}", parts.join("/"));
        let complaint = if !text.starts_with('/') {
            Some(("is not an absolute path", format!("write `{plain}`")))
        } else if parts.contains(&"..") || text.contains('\0') {
            Some(("is not a plain path", "write it without `..`".to_owned()))
        } else if parts.is_empty() {
            Some(("is the whole machine", "name a file or folder in it".to_owned()))
        } else {
            let system = SYSTEM.iter().find(|system| within(&plain, system));
            system.map(|system| {
                ("belongs to the machine's own system", format!("choose a place outside of `{system}`"))
            })
        };
        let Some((message, hint)) = complaint else { return Some(plain) };
        self.report(
            Problem::error(ProblemKind::BadValue, place, format!("{} {message}", quoted(text))).help(hint),
        );
        None
    }

    /// A path of the host that something stands at.
    pub(super) fn existing(&mut self, text: &str, place: &Place) -> Option<(PathBuf, FileKind)> {
        if text.is_empty() || text.contains('\0') {
            self.error(ProblemKind::BadValue, place, format!("{} is not a path", quoted(text)));
            return None;
        }
        // Joining `.` would leave a point at the end.
        let relative = text.trim_end_matches("/.").trim_start_matches("./");
        let folder = self.files.folder();
        let path = if matches!(relative, "." | "") { folder.to_owned() } else { folder.join(relative) };
        if let Some(kind) = self.files.kind(&path) {
            return Some((path, kind));
        }
        let problem = Problem::error(
            ProblemKind::MissingFile,
            place,
            format!("there is no file or folder {}", quoted(text)),
        );
        let problem = problem.label(format!("looked for {}", path.display()));
        let names = path.parent().map(|parent| self.files.list(parent)).unwrap_or_default();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.report(match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help("paths start from the folder of the file"),
        });
        None
    }
}

fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
