use super::Checker;
use super::machines::MachineDraft;
use super::section::Section;
use crate::spec::files::{FileKind, expand};
use crate::spec::model::{Deadlines, Expect, Fresh, On, Program, Test};
use crate::spec::problem::{Place, Problem, ProblemKind, listed, quoted};
use crate::spec::raw::Node;
use std::path::{Path, PathBuf};

impl Checker<'_> {
    pub(super) fn tests<'a>(
        &mut self,
        root: &Section<'a>,
        machines: &[MachineDraft<'_>],
        deadlines: &Deadlines,
    ) -> Vec<Test> {
        let nodes = root.get("tests").map(Node::items).unwrap_or_default();
        let mut tests: Vec<(Test, Place)> = Vec::new();
        for node in nodes.iter().filter(|node| !node.is_bad()) {
            let section = root.item("tests", node);
            let programs = self.programs(&section, &node.place);
            let common = self.test(&section, &node.place, machines, deadlines);
            for (id, program, place) in programs {
                self.test_id(&id, &place);
                tests.push((Test { id, program, ..common.clone() }, place));
            }
        }
        self.unique("test", tests.iter().map(|(test, place)| (test.id.as_str(), place)));
        tests.into_iter().map(|(test, _)| test).collect()
    }

    /// What runs, by id, and where that id comes from.
    fn programs(&mut self, section: &Section<'_>, at: &Place) -> Vec<(String, Program, Place)> {
        let written: Vec<&str> =
            ["run", "file", "files"].into_iter().filter(|key| section.has(key)).collect();
        if written.len() != 1 {
            self.report(match written.as_slice() {
                [] => Problem::error(ProblemKind::MissingKey, at, "the test runs nothing")
                    .help("write run = \"…\" for text for a shell, or `file` or `files` for executables"),
                [first, second, ..] => {
                    let place = section.get(second).map_or(at, |node| &node.place);
                    let message = format!("`{second}` does not fit a test that has `{first}`");
                    Problem::error(ProblemKind::Misfit, place, message).help("make two tests of it")
                }
                // One key is what was wanted.
                [_] => return Vec::new(),
            });
            return Vec::new();
        }
        let name = section.text("name");
        if let Some((text, place)) = section.text("run") {
            let program = Program::Shell(self.shell(text, place));
            if !section.has("name") {
                let problem = Problem::error(ProblemKind::MissingKey, at, "the test has no name");
                self.report(problem.help("write name = \"what it shows\""));
            }
            return name.map(|(name, at)| (name.to_owned(), program, at.clone())).into_iter().collect();
        }
        if let Some((text, place)) = section.text("file") {
            let id = name.map_or((text, place), |name| name);
            let path = self.executable(text, place);
            return path
                .map(|path| (id.0.to_owned(), Program::File(path), id.1.clone()))
                .into_iter()
                .collect();
        }
        let mut programs = Vec::new();
        for (pattern, place) in section.texts("files") {
            let found = self.executables(pattern, place);
            programs.extend(found.into_iter().map(|path| {
                let relative = path.display().to_string();
                let file = path
                    .file_name()
                    .map_or_else(|| relative.clone(), |file| file.to_string_lossy().into_owned());
                let id = name.map_or(relative, |(name, _)| format!("{name}/{file}"));
                (id, Program::File(self.files.folder().join(path)), place.clone())
            }));
        }
        programs
    }

    fn executable(&mut self, text: &str, place: &Place) -> Option<PathBuf> {
        let (path, kind) = self.existing(text, place)?;
        let complaint = match kind {
            FileKind::File { executable: true } => return Some(path),
            FileKind::File { executable: false } => "is not executable",
            FileKind::Folder => "is a folder",
        };
        let problem = Problem::error(ProblemKind::BadValue, place, format!("{} {complaint}", quoted(text)));
        self.report(match kind {
            FileKind::Folder => problem.help(format!("write files = \"{}/*\"", text.trim_end_matches('/'))),
            FileKind::File { .. } => problem.help(format!("chmod +x {text}")),
        });
        None
    }

    /// The executables that match, relative to the file's folder. None at all is a mistake.
    fn executables(&mut self, pattern: &str, place: &Place) -> Vec<PathBuf> {
        if pattern.contains('\0') {
            self.error(ProblemKind::BadValue, place, format!("{} is not a path", quoted(pattern)));
            return Vec::new();
        }
        let found = expand(self.files, pattern);
        let kind = |path: &Path| self.files.kind(&self.files.folder().join(path));
        let (executables, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|path| kind(path) == Some(FileKind::File { executable: true }));
        if executables.is_empty() {
            let message = format!("no executable file matches {}", quoted(pattern));
            let problem = Problem::error(ProblemKind::MissingFile, place, message);
            let file = others.iter().find(|path| matches!(kind(path), Some(FileKind::File { .. })));
            self.report(match file {
                Some(file) => problem
                    .help(format!("{} does, but is not executable", quoted(&file.display().to_string()))),
                None => problem
                    .help("patterns start from the folder of the file; `*` stands for any part of a name"),
            });
        }
        executables
    }

    fn test_id(&mut self, id: &str, place: &Place) {
        let message = if id.trim().is_empty() {
            "the test's name is empty".to_owned()
        } else if id.chars().any(char::is_control) {
            format!("{} cannot be the name of a test: it has control characters", quoted(id))
        } else if id.starts_with("testbed/") {
            format!(
                "{} cannot be the name of a test: `testbed/` begins the names of machines in a report",
                quoted(id)
            )
        } else {
            return;
        };
        self.error(ProblemKind::BadName, place, message);
    }

    /// What the tests of one entry have in common.
    fn test(
        &mut self,
        section: &Section<'_>,
        at: &Place,
        machines: &[MachineDraft<'_>],
        deadlines: &Deadlines,
    ) -> Test {
        let on = self.on(section, at, machines);
        let mut tags: Vec<String> = Vec::new();
        for (tag, place) in section.texts("tags") {
            if tag.is_empty() || tag.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
                self.error(
                    ProblemKind::BadName,
                    place,
                    format!("{} cannot be a tag: it is empty, or has spaces or commas", quoted(tag)),
                );
            } else if tags.iter().all(|known| known != tag) {
                tags.push(tag.to_owned());
            }
        }
        let user = self.user(section, "user");
        if let (On::Host, Some((_, place))) = (&on, section.text("user")) {
            let problem =
                Problem::error(ProblemKind::Misfit, place, "`user` does not fit a test on the host");
            self.report(problem.help("it runs as the user who runs the testbed"));
        }
        Test {
            id: String::new(),
            on,
            program: Program::Shell(String::new()),
            timeout: self.duration(section, "timeout").unwrap_or(deadlines.test),
            fresh: self.fresh(section),
            expect: match section.text("expect") {
                Some(("failure", _)) => Expect::Failure,
                _ => Expect::Success,
            },
            needs: self.needs(section),
            tags,
            env: self.env(&section.entries("env")),
            user,
        }
    }

    fn on(&mut self, section: &Section<'_>, at: &Place, machines: &[MachineDraft<'_>]) -> On {
        let names = || machines.iter().map(|draft| draft.machine.name.as_str());
        let Some((name, place)) = section.text("on") else {
            match machines {
                [only] => return On::Machine(only.machine.name.clone()),
                [_, _, ..] if !section.has("on") => {
                    let problem =
                        Problem::error(ProblemKind::MissingKey, at, "the test does not say where it runs");
                    let all = listed(names());
                    self.report(problem.help(format!("write on = \"host\", or one of the machines: {all}")));
                }
                _ => {}
            }
            return On::Host;
        };
        if name == "host" {
            return On::Host;
        }
        if machines.iter().any(|draft| draft.machine.name == name && !draft.machine.agent) {
            let message = format!("no test runs on {}, which has no agent", quoted(name));
            let problem = Problem::error(ProblemKind::Misfit, place, message);
            self.report(
                problem.help("write on = \"host\": there the command `testbed` speaks to the test's copy"),
            );
        }
        if !names().any(|known| known == name) {
            let alike: Vec<&MachineDraft<'_>> =
                machines.iter().filter(|draft| draft.machine.declared == name).collect();
            if let Some(draft) = alike.first() {
                let message = format!("{} stands for {} machines", quoted(name), draft.count);
                let problem =
                    Problem::error(ProblemKind::UnknownName, place, message).also(draft.at, "declared here");
                let all = listed(alike.iter().map(|draft| draft.machine.name.as_str()));
                self.report(problem.help(format!("name one of them: {all}")));
            } else {
                self.unknown("machine", name, place, names());
            }
        }
        On::Machine(name.to_owned())
    }

    fn fresh(&mut self, section: &Section<'_>) -> Fresh {
        let group = section.text("group");
        if let Some((name, place)) = group
            && name.trim().is_empty()
        {
            self.error(ProblemKind::BadName, place, "the group's name is empty");
        }
        match (section.text("fresh"), group) {
            (Some(("group", _)) | None, Some((name, _))) => Fresh::Group(name.to_owned()),
            (Some((fresh, at)), Some((_, place))) => {
                let message = format!("`group` does not fit `fresh = \"{fresh}\"`");
                let problem = Problem::error(ProblemKind::Misfit, place, message).also(at, "says otherwise");
                self.report(problem.help("remove one of them"));
                Fresh::Testbed
            }
            (Some(("group", place)), None) => {
                if !section.has("group") {
                    let problem =
                        Problem::error(ProblemKind::MissingKey, place, "`fresh = \"group\"` wants a `group`");
                    self.report(problem.help("write group = \"NAME\"; tests with the same one share a copy"));
                }
                Fresh::Testbed
            }
            (Some(("run", _)), None) => Fresh::Run,
            _ => Fresh::Testbed,
        }
    }
}
