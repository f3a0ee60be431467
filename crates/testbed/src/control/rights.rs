//! What a client must be allowed to do for what it asks.

use crate::spec::{Control, RightAction};
use testbed_agent::agent::{Request, Tool};
use testbed_agent::control::Ask;
use testbed_agent::{Fault, FaultKind};

/// Whether an agent may be asked this.
///
/// # Errors
/// [`FaultKind::Denied`], with the right that would allow it.
pub(super) fn check_request(rights: &Control, machine: &str, request: &Request) -> Result<(), Fault> {
    use RightAction::{Capture, Copy, Exec};
    let needed: &[RightAction] = match request {
        Request::Run(_) | Request::Processes { .. } | Request::Kill { .. } => &[Exec],
        Request::Stat { .. } | Request::List { .. } => &[Copy, Exec],
        Request::MakeDir { .. }
        | Request::MakeTemporary { .. }
        | Request::Remove { .. }
        | Request::Rename { .. }
        | Request::Put { .. } => &[Copy],
        Request::Tool(tooling) => match tooling.tool {
            Tool::Read { .. } | Tool::Write { .. } | Tool::Pack { .. } | Tool::Unpack { .. } => &[Copy],
            Tool::Capture { .. } => &[Capture],
            _ if tooling.device.is_some() => return Err(keepers_alone()),
            Tool::Carry
            | Tool::Trunk
            | Tool::SaveMemory { .. }
            | Tool::LoadMemory { .. }
            | Tool::CompareMemory { .. } => {
                return Err(keepers_alone());
            }
            _ => &[Exec],
        },
        Request::EnterRoot
        | Request::Enclose { .. }
        | Request::HandOver { .. }
        | Request::Become { .. }
        | Request::Load { .. }
        | Request::Rest
        | Request::TakeUp(_)
        | Request::Sync => return Err(keepers_alone()),
    };
    check(rights, needed, &[machine])
}

/// What makes a machine the one that it is.
fn keepers_alone() -> Fault {
    Fault::new(FaultKind::Denied, "ask what only a machine's keeper may")
}

/// Whether a request is about files alone, and so needs no machine that runs.
pub(super) fn is_about_files(request: &Request) -> bool {
    match request {
        Request::Stat { .. }
        | Request::List { .. }
        | Request::MakeDir { .. }
        | Request::MakeTemporary { .. }
        | Request::Remove { .. }
        | Request::Rename { .. }
        | Request::Put { .. } => true,
        Request::Tool(tooling) => matches!(
            tooling.tool,
            Tool::Read { .. } | Tool::Write { .. } | Tool::Pack { .. } | Tool::Unpack { .. }
        ),
        Request::Run(_)
        | Request::Processes { .. }
        | Request::Kill { .. }
        | Request::EnterRoot
        | Request::Enclose { .. }
        | Request::HandOver { .. }
        | Request::Become { .. }
        | Request::Load { .. }
        | Request::Rest
        | Request::TakeUp(_)
        | Request::Sync => false,
    }
}

/// Whether the keeper may be asked this, by the programs of the machine `own` or from the host.
///
/// # Errors
/// As for [`check_request`].
pub(super) fn check_ask(rights: &Control, own: Option<&str>, ask: &Ask) -> Result<(), Fault> {
    use RightAction as R;
    match ask {
        Ask::Status { .. } => Ok(()),
        Ask::Link { machine, network, .. } => {
            let targets: Vec<&str> = [machine].into_iter().chain(network).map(String::as_str).collect();
            check(rights, &[R::Cut], &targets)
        }
        Ask::Attach { machine, .. } | Ask::Detach { machine, .. } => check(rights, &[R::Cut], &[machine]),
        Ask::Capture { network, .. } => check(rights, &[R::Capture], &[network]),
        Ask::Connect { machine, .. } => check(rights, &[R::Connect], &[machine]),
        Ask::Pause { machine } | Ask::Resume { machine } => check(rights, &[R::Pause], &[machine]),
        Ask::StopMachine { machine }
        | Ask::StartMachine { machine }
        | Ask::RestartMachine { machine, .. }
        | Ask::KillMachine { machine } => check(rights, &[R::Restart], &[machine]),
        Ask::Files { machine } => check(rights, &[R::Copy], &[machine]),
        Ask::Logs { machine, .. } => check(rights, &[R::Logs], &[machine]),
        Ask::Start { machine, .. }
        | Ask::Console { machine }
        | Ask::Screenshot { machine }
        | Ask::Type { machine, .. }
        | Ask::Screen { machine } => check(rights, &[R::Exec], &[machine]),
        Ask::Changes { machine } => check(rights, &[R::Copy, R::Exec], &[machine]),
        Ask::Snapshot { machines, .. } | Ask::Rollback { machines, .. } => {
            // All machines are every one of them.
            let all = if machines.is_empty() { vec!["*"] } else { Vec::new() };
            let targets = machines.iter().map(String::as_str).chain(all);
            targets.into_iter().try_for_each(|machine| check(rights, &[R::Snapshot], &[machine]))
        }
        Ask::DeleteSnapshot { .. } | Ask::Snapshots { .. } => check(rights, &[R::Snapshot], &["*"]),
        // A machine's own are its own to read and write.
        Ask::Variable { machine, .. }
        | Ask::SetVariable { machine, .. }
        | Ask::ForgetVariable { machine, .. }
        | Ask::Variables { machine, .. }
            if own == Some(machine) =>
        {
            Ok(())
        }
        Ask::Variable { machine, .. }
        | Ask::SetVariable { machine, .. }
        | Ask::ForgetVariable { machine, .. }
        | Ask::Variables { machine, .. } => check(rights, &[R::Variables], &[machine]),
        // What the host listens at is no part of a copy.
        Ask::OpenPort { .. } | Ask::ClosePort { .. } if own.is_some() => {
            Err(Fault::new(FaultKind::Denied, "publish a port of the host").hint("call it on the host"))
        }
        Ask::OpenPort { .. } | Ask::ClosePort { .. } => Ok(()),
        // Whoever may not is not given the means.
        Ask::Fork { .. } | Ask::Down => Ok(()),
    }
}

/// One of the actions must be allowed on one of the targets.
fn check(rights: &Control, actions: &[RightAction], targets: &[&str]) -> Result<(), Fault> {
    if targets.iter().any(|target| actions.iter().any(|action| rights.allows(*action, target))) {
        return Ok(());
    }
    let (right, target) =
        (actions.first().map_or("", |action| action.as_str()), targets.first().unwrap_or(&""));
    Err(Fault::new(FaultKind::Denied, "do what this machine has no right to")
        .hint(format!("`control = [\"{right}:{target}\"]` of this machine would allow it")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    fn rights(text: &str) -> Control {
        let file = format!(
            "[networks]\nlan = {{ raw = true }}\n[machines.gw]\ncontrol = {text}\n[machines.tester-1]\n"
        );
        let (testbed, problems) = spec::check(&file, "testbed.toml", &spec::FixedFiles::new("/"));
        let testbed = testbed.unwrap_or_else(|| panic!("{problems}"));
        testbed.machine("gw").map(|m| m.control().clone()).expect("it is there")
    }

    #[test]
    fn a_list_narrows() {
        let only = rights("['exec:tester-*', 'capture']");
        let run = Request::Processes { after: 0 };
        assert!(check_request(&only, "tester-1", &run).is_ok());
        let denied = check_request(&only, "gw", &run).expect_err("gw is no tester");
        assert_eq!(denied.kind, FaultKind::Denied);
        assert!(denied.hint.is_some_and(|hint| hint.contains("exec:gw")));
        let read = Request::Stat { path: "/".into() };
        assert!(check_request(&only, "tester-1", &read).is_ok());
        let remove = Request::Remove { path: "/".into(), recursive: true };
        assert!(check_request(&only, "tester-1", &remove).is_err());
        let capture = |network: &str| Ask::Capture {
            network: network.into(),
            filter: String::new(),
            count: 0,
            snap: 0,
            deadline_ms: None,
        };
        assert!(check_ask(&only, None, &capture("lan")).is_ok());
        assert!(check_ask(&only, None, &Ask::Pause { machine: "tester-1".into() }).is_err());
        assert!(check_ask(&only, None, &Ask::Status { from: 0 }).is_ok());
        let variables = |machine: &str| Ask::Variables { machine: machine.into(), after: String::new() };
        assert!(check_ask(&only, Some("gw"), &variables("gw")).is_ok());
        assert!(check_ask(&only, Some("gw"), &variables("tester-1")).is_err());
        let port = Ask::ClosePort { host: "127.0.0.1:1".parse().expect("an address") };
        assert!(check_ask(&rights("true"), Some("gw"), &port).is_err());
        assert!(check_ask(&rights("true"), None, &port).is_ok());
        assert!(check_ask(&rights("['var:tester-*']"), Some("gw"), &variables("tester-1")).is_ok());
    }
}
