use super::Checker;
use super::section::Section;
use crate::spec::model::{Deadlines, Ready, ReadyCondition, Service};
use crate::spec::problem::{Place, Problem, ProblemKind, quoted};
use crate::spec::raw::Value;

/// Whose lines a `log` among the conditions of readiness waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Those of services.
    Services,
    /// Nobody writes any.
    Nobody,
    /// Those of the console; nothing else is known of the machine.
    Console,
}

/// Conditions of readiness that only an agent can tell of.
pub(super) const BEYOND_CONSOLE: [&str; 3] = ["port", "command", "file"];

impl Lines {
    pub(super) fn of(services: &[Service]) -> Lines {
        if services.is_empty() { Lines::Nobody } else { Lines::Services }
    }
}

impl Checker<'_> {
    pub(super) fn services(&mut self, section: &Section<'_>) -> Vec<Service> {
        if let Some(Value::List(_)) = section.get("services").map(|node| &node.value) {
            return self.listed_services(section);
        }
        let mut services = Vec::new();
        for entry in section.entries("services") {
            self.service_name(&entry.key, &entry.at, "");
            let name = entry.key.clone();
            if let Some(text) = entry.value.as_text() {
                let run = self.shell(text, &entry.value.place);
                services.push(Service { name, run, user: None, env: Vec::new(), cwd: None });
                continue;
            }
            let table = section.item("services", &entry.value);
            if !table.has("run") {
                let message = format!("the service {} has no `run`", quoted(&name));
                self.error(ProblemKind::MissingKey, &entry.at, message);
            }
            services.push(Service {
                name,
                run: table.text("run").map(|(text, place)| self.shell(text, place)).unwrap_or_default(),
                user: self.user(&table, "user"),
                env: self.env(&table.entries("env")),
                cwd: table.text("cwd").and_then(|(text, place)| self.inside(text, place)),
            });
        }
        services
    }

    /// Each is named by its program.
    fn listed_services(&mut self, section: &Section<'_>) -> Vec<Service> {
        const HINT: &str = "write a table to name it yourself: services = { NAME = \"…\" }";
        let mut services: Vec<Service> = Vec::new();
        for (text, place) in section.texts("services") {
            let run = self.shell(text, place);
            let name = program(text).to_owned();
            if !text.trim().is_empty() {
                self.service_name(&name, place, HINT);
            }
            if services.iter().any(|known| known.name == name) {
                let message = format!("two services are named {} by their program", quoted(&name));
                self.report(Problem::error(ProblemKind::Duplicate, place, message).help(HINT));
            }
            services.push(Service { name, run, user: None, env: Vec::new(), cwd: None });
        }
        services
    }

    fn service_name(&mut self, name: &str, place: &Place, hint: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.chars().all(legal) {
            let message = format!("{} cannot be the name of a service", quoted(name));
            let problem = Problem::error(ProblemKind::BadName, place, message);
            let problem = problem.label("letters, digits, `.`, `_` and `-`, at most 64");
            self.report(if hint.is_empty() { problem } else { problem.help(hint) });
        }
    }

    pub(super) fn ready(
        &mut self,
        section: &Section<'_>,
        machine: &str,
        lines: Lines,
        deadlines: &Deadlines,
    ) -> Vec<Ready> {
        let mut ready = Vec::new();
        let Some(node) = section.get("ready") else { return ready };
        let tables: Vec<Section<'_>> = match &node.value {
            Value::List(items) => {
                items.iter().filter(|item| !item.is_bad()).map(|item| section.item("ready", item)).collect()
            }
            _ => vec![section.sub("ready")],
        };
        for table in tables {
            let timeout = self.duration(&table, "timeout").unwrap_or(deadlines.ready);
            let mut conditions = Vec::new();
            if let Some((text, place)) = table.text("log") {
                if text.is_empty() || text.contains('\n') {
                    let problem =
                        Problem::error(ProblemKind::BadValue, place, "`log` wants a piece of one line");
                    self.report(problem);
                }
                if lines == Lines::Nobody {
                    let message = format!("`log` does not fit {}: it has no services", quoted(machine));
                    let problem = Problem::error(ProblemKind::Misfit, place, message);
                    self.report(problem.help("nothing writes a line; wait with `port`, `file` or `command`"));
                }
                conditions.push(ReadyCondition::Log(text.to_owned()));
            }
            for key in BEYOND_CONSOLE {
                if let Some(node) = table.get(key).filter(|_| lines == Lines::Console) {
                    let message = format!("`{key}` does not fit a machine without an agent");
                    let problem = Problem::error(ProblemKind::Misfit, &node.place, message);
                    self.report(problem.help("wait with `log` for a line of its console"));
                }
            }
            if let Some((port, _)) = table.integer("port") {
                // The table of keys bounds it.
                conditions.extend(u16::try_from(port).ok().map(ReadyCondition::Port));
            }
            if let Some((text, place)) = table.text("command") {
                conditions.push(ReadyCondition::Command(self.shell(text, place)));
            }
            if let Some((text, place)) = table.text("file") {
                conditions.extend(self.inside(text, place).map(ReadyCondition::File));
            }
            if !["log", "port", "command", "file"].iter().any(|key| table.has(key)) {
                let problem =
                    Problem::error(ProblemKind::MissingKey, &table.place(), "`ready` has no condition");
                self.report(problem.help("write ready = { port = 8080 }, or `log`, `file` or `command`"));
            }
            ready.extend(conditions.into_iter().map(|condition| Ready { condition, timeout }));
        }
        ready
    }

    /// An absolute path inside, wherever it leads.
    fn inside(&mut self, text: &str, place: &Place) -> Option<String> {
        if text.starts_with('/') && !text.contains('\0') {
            return Some(text.to_owned());
        }
        self.error(ProblemKind::BadValue, place, format!("{} is not an absolute path", quoted(text)));
        None
    }
}

/// The name of the program that a command runs: the first word that is no assignment and no `exec`.
fn program(command: &str) -> &str {
    let is_assignment = |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.contains('/'));
    let word =
        command.split_whitespace().find(|word| !is_assignment(word) && *word != "exec").unwrap_or_default();
    word.rsplit('/').next().unwrap_or(word)
}
