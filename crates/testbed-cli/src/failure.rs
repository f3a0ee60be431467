//! What keeps a command from doing what was asked, told once, here.

use crate::exit::Exit;
use crate::terminal::{self, Style};
use std::error::Error;
use std::io;
use testbed::Fault;
use testbed::spec::{LoadError, Severity};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The call is wrong: what, and what to do.
    Call {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The file is wrong, or cannot be read.
    File(LoadError),
    /// The testbed failed.
    Testbed(Box<Fault>),
    /// There is nothing to run.
    Nothing(String),
    /// Something could not be written or read outside any testbed.
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Failure {
    /// A call that makes no sense.
    pub(crate) fn call(message: impl Into<String>) -> Failure {
        Failure::Call { message: message.into(), hint: None }
    }

    /// Something could not be read or written.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Failure {
        Failure::Io { doing: doing.into(), source }
    }

    /// Says what to do about a wrong call.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        match self {
            Failure::Call { message, .. } => Failure::Call { message, hint: Some(hint.into()) },
            other => other,
        }
    }

    /// How the command ends. A reader that has gone is no failure: it has seen what it wanted.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Call { .. } | Failure::File(_) => Exit::Usage,
            Failure::Testbed(fault) if fault.kind == testbed::FaultKind::Interrupted => Exit::Interrupted,
            Failure::Testbed(_) => Exit::TestbedFailed,
            Failure::Nothing(_) => Exit::NothingToRun,
            Failure::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            Failure::Io { .. } => Exit::TestbedFailed,
        }
    }

    /// Writes it to standard error.
    pub(crate) fn tell(&self) {
        if self.exit() != Exit::Success {
            terminal::talk(&self.render(terminal::style_of_stderr()));
        }
    }

    pub(crate) fn render(&self, style: Style) -> String {
        let error = |message: &str| format!("{} {message}\n", style.red("error:"));
        match self {
            Failure::Call { message, hint } => with_hint(error(message), hint.as_deref(), style),
            Failure::File(LoadError::Wrong { problems, .. }) => {
                let count = problems.iter().filter(|problem| problem.severity() == Severity::Error).count();
                let errors = if count == 1 { "1 error" } else { &format!("{count} errors") };
                format!("{}\n\n{}", problems.render(style.is_on()), error(errors))
            }
            Failure::File(load) => {
                let cause = load.source().map_or(String::new(), |cause| format!(": {cause}"));
                error(&format!("{load}{cause}"))
            }
            Failure::Testbed(fault) => fault_text(fault, style),
            Failure::Nothing(message) => error(message),
            Failure::Io { doing, source } => error(&format!("cannot {doing}: {source}")),
        }
    }
}

/// A fault as text: what failed, the end of the log, what to do.
fn fault_text(fault: &Fault, style: Style) -> String {
    let mut text = format!("{} {fault}\n", style.red("testbed failed:"));
    if let Some(log) = &fault.log {
        log.lines().for_each(|line| text.push_str(&format!("  | {line}\n")));
    }
    with_hint(text, fault.hint.as_deref(), style)
}

fn with_hint(text: String, hint: Option<&str>, style: Style) -> String {
    match hint {
        Some(hint) => format!("{text}{} {hint}\n", style.blue("hint:")),
        None => text,
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Testbed(Box::new(fault))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::File(error)
    }
}
