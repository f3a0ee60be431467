//! From the raw tree to the checked model. Every problem is collected; the model counts only if there is no error.

mod access;
mod capsule;
mod files;
pub(crate) mod graph;
mod images;
mod interfaces;
mod machines;
mod networks;
mod routes;
mod section;
mod services;
mod systems;
mod tests;

pub(crate) use images::TAR_SUFFIXES;

use super::files::Files;
use super::keys::TESTBED;
use super::model::{ABILITIES, Deadlines, Machine, Need, Testbed};
use super::name::{is_label, nearest, to_label};
use super::problem::{Place, Problem, ProblemKind, Problems, listed, quoted};
use super::raw::{Entry, Node};
use super::{parse_duration, parse_size};
use section::Section;
use std::collections::HashMap;
use std::time::Duration;

/// Checks a tree that has the right shape, and makes a model of it. The model is a legal one only if no error has been
/// reported.
pub(super) fn lower(root: &Node, files: &dyn Files, problems: &mut Problems) -> Testbed {
    let mut checker = Checker { files, problems };
    let root = Section::new(&TESTBED, root);
    let name = checker.testbed_name(&root);
    let deadlines = checker.deadlines(&root.sub("defaults").sub("deadlines"));
    let networks = checker.networks(&root);
    let mut images = checker.images(&root);
    let drafts = checker.machines(&root, &networks, &mut images, &name, &deadlines);
    let tests = checker.tests(&root, &drafts, &deadlines);
    let capsule = checker.capsule(&root, &drafts, &images);
    let images = checker.image_order(images);
    let machines = drafts.into_iter().map(|draft| draft.machine);
    let machines = machines.map(|machine| with_image_env(machine, &images)).collect();
    let networks = networks.into_iter().map(|draft| draft.network).collect();
    Testbed {
        name,
        folder: files.folder().to_owned(),
        images,
        networks,
        machines,
        tests,
        capsule,
        deadlines,
        kernels_are_decided: false,
    }
}

/// Every machine made from an image has its variables, under its own.
fn with_image_env(mut machine: Machine, images: &[super::model::Image]) -> Machine {
    if let Some(image) = images.iter().find(|image| image.name == machine.image) {
        let own = std::mem::take(&mut machine.env);
        machine.env = overlaid(&image.env, own);
    }
    machine
}

/// The variables of `under` that are not in `own`, and then those.
fn overlaid(under: &[(String, String)], own: Vec<(String, String)>) -> Vec<(String, String)> {
    let inherited = under.iter().filter(|(name, _)| own.iter().all(|(known, _)| known != name)).cloned();
    inherited.collect::<Vec<_>>().into_iter().chain(own).collect()
}

/// Where problems go while the tree is lowered, and whom to ask about files.
struct Checker<'a> {
    files: &'a dyn Files,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn error(&mut self, kind: ProblemKind, place: &Place, message: impl AsRef<str>) {
        self.problems.push(Problem::error(kind, place, message));
    }

    fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn testbed_name(&mut self, root: &Section<'_>) -> String {
        if let Some((name, place)) = root.text("name") {
            self.label("testbed", name, place);
            return name.to_owned();
        }
        let folder = self.files.folder().file_name().and_then(|name| name.to_str());
        folder.and_then(to_label).unwrap_or_else(|| "testbed".to_owned())
    }

    fn deadlines(&mut self, section: &Section<'_>) -> Deadlines {
        let default = Deadlines::default();
        Deadlines {
            start: self.duration(section, "start").unwrap_or(default.start),
            ready: self.duration(section, "ready").unwrap_or(default.ready),
            test: self.duration(section, "test").unwrap_or(default.test),
            layer_step: self.duration(section, "layer-step").unwrap_or(default.layer_step),
            stop: self.duration(section, "stop").unwrap_or(default.stop),
        }
    }

    /// Reports a name that is no host label.
    fn label(&mut self, what: &str, name: &str, place: &Place) {
        if is_label(name) {
            return;
        }
        let problem = Problem::error(
            ProblemKind::BadName,
            place,
            format!("{} cannot be the name of a {what}", quoted(name)),
        );
        let rule = "a name is a host label: letters a to z, digits and inner hyphens, at most 63";
        // What has lost most of its letters is no help.
        let near = to_label(name).filter(|label| label.len() * 2 >= name.chars().count());
        self.report(match near {
            Some(label) => problem.label(rule).help(format!("`{label}` would do")),
            None => problem.label(rule),
        });
    }

    /// Reports a name that stands for nothing, with the ones that there are.
    fn unknown<'n>(
        &mut self,
        what: &str,
        name: &str,
        place: &Place,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        let problem =
            Problem::error(ProblemKind::UnknownName, place, format!("there is no {what} {}", quoted(name)));
        let near = nearest(name, known.clone()).map(|near| format!("did you mean `{near}`? "));
        let all = match known.clone().next() {
            Some(_) => format!("declared: {}", listed(known)),
            None => format!("no {what} is declared"),
        };
        self.report(problem.help(near.unwrap_or_default() + &all));
    }

    fn duration(&mut self, section: &Section<'_>, key: &str) -> Option<Duration> {
        let (text, place) = section.text(key)?;
        parse_duration(text).map_err(|why| self.bad_quantity("duration", text, place, why)).ok()
    }

    fn size(&mut self, section: &Section<'_>, key: &str) -> Option<u64> {
        let (text, place) = section.text(key)?;
        parse_size(text).map_err(|why| self.bad_quantity("size", text, place, why)).ok()
    }

    fn bad_quantity(&mut self, what: &str, text: &str, place: &Place, why: &str) {
        let message = format!("{} is not a {what}", quoted(text));
        self.report(Problem::error(ProblemKind::BadValue, place, message).help(why));
    }

    /// Variables: legal names, and values that a process can be given.
    fn env(&mut self, entries: &[&Entry]) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for entry in entries {
            self.env_name(&entry.key, &entry.at);
            let Some(value) = entry.value.as_text() else { continue };
            if value.contains('\0') {
                self.error(
                    ProblemKind::BadValue,
                    &entry.value.place,
                    "a variable cannot hold a NUL character",
                );
            }
            env.push((entry.key.clone(), value.to_owned()));
        }
        env
    }

    fn env_name(&mut self, name: &str, place: &Place) {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
            let message = format!("{} cannot be the name of a variable", quoted(name));
            let rule = "letters, digits and `_`, not beginning with a digit";
            self.report(Problem::error(ProblemKind::BadName, place, message).label(rule));
        }
    }

    /// Text for a shell: it does something, and a process can be given it.
    fn shell(&mut self, text: &str, place: &Place) -> String {
        if text.trim().is_empty() {
            self.error(ProblemKind::BadValue, place, "the command is empty");
        } else if text.contains('\0') {
            self.error(ProblemKind::BadValue, place, "a command cannot hold a NUL character");
        }
        text.to_owned()
    }

    /// `name`, `name:group` or numbers.
    fn user(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let (text, place) = section.text(key)?;
        let legal = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$'))
        };
        let (user, group) = text.split_once(':').unwrap_or((text, "root"));
        if !legal(user) || !legal(group) {
            let message = format!("{} is not a user", quoted(text));
            self.report(
                Problem::error(ProblemKind::BadValue, place, message)
                    .help("write `name`, `name:group` or numbers"),
            );
        }
        Some(text.to_owned())
    }

    fn needs(&mut self, section: &Section<'_>) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        for (text, place) in section.texts("needs") {
            let Some(need) = Need::parse(text) else {
                let problem = Problem::error(
                    ProblemKind::UnknownName,
                    place,
                    format!("nothing is known of a need {}", quoted(text)),
                );
                let near = nearest(text, ABILITIES.iter().map(|ability| ability.name));
                self.report(problem.help(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write `module:NAME` for a kernel module, or one of {}", needs_list()),
                }));
                continue;
            };
            if !needs.contains(&need) {
                needs.push(need);
            }
        }
        needs
    }

    /// Reports every name that was given before.
    fn unique<'p>(&mut self, what: &str, names: impl IntoIterator<Item = (&'p str, &'p Place)>) {
        let mut first: HashMap<&str, &Place> = HashMap::new();
        for (name, place) in names {
            if let Some(before) = first.get(name) {
                let message = format!("the {what} {} is there twice", quoted(name));
                self.report(
                    Problem::error(ProblemKind::Duplicate, place, message).also(before, "first here"),
                );
            } else {
                first.insert(name, place);
            }
        }
    }
}

fn needs_list() -> String {
    ABILITIES.iter().map(|ability| format!("`{}`", ability.name)).collect::<Vec<_>>().join(", ")
}
