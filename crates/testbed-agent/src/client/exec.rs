//! Programs on machines.

use super::streams::{Carried, Ends, Signals, carry};
use super::terminal::{self, Raw};
use super::words::{Exec, millis};
use super::{Connection, Io, status};
use crate::agent::{ErrorSink, Program, Reply, Request, Run, Sink, Source, Stdio};
use crate::control::{Answer, Ask};
use crate::fault::{Fault, FaultKind};

/// Runs a program; the status that the call ends with.
pub(super) fn exec(connection: &mut Connection, exec: &Exec, io: &Io<'_>) -> Result<u8, Fault> {
    let streams = [io.input, io.output, io.error];
    let stdio = if exec.terminal {
        let (rows, columns) = terminal::size(&streams);
        Stdio::Terminal { rows, columns, term: io.term.to_owned() }
    } else {
        let input = if exec.no_input { Source::Null } else { Source::Channel };
        Stdio::Apart { input, output: Sink::Channel, error: ErrorSink::Channel }
    };
    let run = Run {
        program: Program::Argv(exec.argv.clone()),
        script: exec.script.clone(),
        env: exec.env.clone(),
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        stdio,
        deadline_ms: exec.timeout.map(|timeout| u64::from(millis(timeout))),
    };
    if exec.detach {
        let ask = Ask::Start { machine: exec.machine.clone(), run };
        let Answer::Started { pid } = connection.ask(&ask)?.end()?.answer()? else {
            return Err(Fault::new(FaultKind::Protocol, "understand whether it started").on(&exec.machine));
        };
        io.print(&format!("{pid}\n"))?;
        return Ok(status::DONE);
    }
    let followed = if exec.terminal { &streams[..] } else { &[] };
    let ends = Ends {
        input: (!exec.no_input).then_some(io.input),
        output: Some(io.output),
        error: Some(io.error),
        ready: None,
        leave: None,
        signals: io.signals.map(|fd| (fd, Signals::PassOn(followed))),
    };
    let channel = connection.open(&exec.machine, Request::Run(run))?;
    let _raw = if exec.terminal { Raw::new(io.input) } else { None };
    let end = match carry(channel, ends, None)? {
        Carried::Ended(end) | Carried::Stopped(end) => end,
        Carried::Unread => return Ok(status::DONE),
    };
    match end.reply()? {
        Reply::Ended { timed_out: true, .. } => {
            io.say(&format!("{}: the program was killed: its time was over", exec.machine));
            Ok(status::LATE)
        }
        Reply::Ended { how, .. } => Ok(how.shell_code() as u8),
        other => {
            let what = format!("understand how a program ended: {other:?}");
            Err(Fault::new(FaultKind::Protocol, what).on(&exec.machine))
        }
    }
}
