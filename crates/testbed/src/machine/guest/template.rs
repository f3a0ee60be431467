//! Templates: kernels that have started once, and wait to be told which machine they are.

use super::hypervisor::Hypervisor;
use super::{Accelerator, Hardware, initramfs, qemu};
use crate::engine::link::{Event, Handler, Link};
use crate::engine::{AGENT, inside, poller};
use crate::machine::wait::{BOOTED, BOOTS};
use crate::machine::{Console, Machine};
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use testbed_agent::agent::{Condition, ErrorSink, Program, Request, Run, Sink, Source, Stdio, Tool, Tooling};
use testbed_agent::frame::{Frame, FrameError, Hello, Kind};
use testbed_agent::launch::{Order, Outcome};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

/// Where the jail gets the initial root's program.
const AGENT_ARCHIVE: &str = "/tmp/agent.cpio";

/// What is in a template, beside the layers that its jail stands on, as text that changes when it does.
pub(crate) fn recipe(hardware: &Hardware, accelerator: &Accelerator) -> String {
    let (boot, copy) =
        (qemu::boot(hardware, accelerator, AGENT_ARCHIVE), qemu::copy(hardware, accelerator, qemu::MEMORY));
    let init = hardware.init.program().unwrap_or_default().to_owned();
    let words = [boot, copy, hardware.modules.clone(), vec![accelerator.only_for(), init]].concat();
    words.join("\n")
}

/// Starts a kernel in a jail, and leaves the template there.
///
/// # Errors
/// Why it does not start, with what it says last; [`FaultKind::Timeout`].
pub(crate) fn make_template(
    jail: &Machine,
    hardware: &Hardware,
    accelerator: &Accelerator,
    deadline: Duration,
) -> Result<(), Fault> {
    jail.write_file(AGENT_ARCHIVE, 0o600, &initramfs::archive(&[("init", 0o755, AGENT)]))?;
    let (ours, port) = fdpass::stream_pair().doing("make a socket")?;
    let console = Console::default();
    let command = qemu::boot(hardware, accelerator, AGENT_ARCHIVE);
    let held = accelerator.open()?.into_iter().collect();
    let hypervisor = Hypervisor::start(jail, command, qemu::MEMORY, hardware.screen, port, held, &console)
        .map_err(|fault| super::with_console(fault, &console))?;
    let link = Arc::new(Link::new("template", ours, 1, Box::new(Greeted)).doing("reach the template")?);
    poller::watch(&link).doing("watch the template")?;
    let result = start(jail, hypervisor, &link, hardware, deadline);
    link.close(Fault::new(FaultKind::State, "the template is made"));
    result.map_err(|fault| super::with_console(fault, &console))
}

fn start(
    jail: &Machine,
    mut hypervisor: Hypervisor,
    link: &Arc<Link>,
    hardware: &Hardware,
    deadline: Duration,
) -> Result<(), Fault> {
    hypervisor.run()?;
    link.send(0, Kind::Hello, &Hello::ours(), Vec::new())?;
    let load = || match &hardware.modules[..] {
        [] => Ok(()),
        modules => ask(link, Request::Load { modules: modules.to_vec() }, deadline),
    };
    if hardware.is_capsule() {
        ask(link, Request::Enclose { images: hardware.images }, deadline)?;
        load()?;
        begin_launcher(link, deadline)?;
        ask(link, Request::Rest, deadline)?;
        hypervisor.stop()?;
        return hypervisor.save_template(jail);
    }
    ask(link, Request::Rest, deadline)?;
    hypervisor.stop()?;
    hypervisor.save_restart(jail)?;
    hypervisor.run()?;
    super::wake(link, false)?;
    ask(link, Request::EnterRoot, deadline)?;
    if let Some(program) = hardware.init.program() {
        ask(link, Request::HandOver { program: program.to_owned() }, deadline)?;
    }
    load()?;
    if hardware.init.program().is_some() {
        wait_booted(link, deadline)?;
    }
    warm_up(link, deadline);
    ask(link, Request::Rest, deadline)?;
    hypervisor.stop()?;
    hypervisor.save_template(jail)?;
    Hypervisor::keep_restart(jail)
}

/// Waits until the system's own process 1 has started all that it starts. That something of it has failed is for who uses
/// the system to judge.
fn wait_booted(link: &Arc<Link>, deadline: Duration) -> Result<(), Fault> {
    let condition = Condition::File { path: BOOTS.into() };
    let deadline_ms = Some(deadline.as_millis() as u64);
    let (input, output) = (Source::Null, Sink::Null);
    let tooling = Tooling { tool: Tool::Wait(condition), input, output, deadline_ms, device: None };
    ask(link, Request::Tool(tooling), deadline)?;
    ask(link, Request::Run(quietly(BOOTED)), deadline)
}

/// Runs what most programs need, so that it is in memory. An image may lack it.
fn warm_up(link: &Arc<Link>, deadline: Duration) {
    let _ = ask(link, Request::Run(quietly("/bin/true")), deadline);
}

fn quietly(text: &str) -> Run {
    let stdio = Stdio::Apart { input: Source::Null, output: Sink::Null, error: ErrorSink::Null };
    let program = Program::Shell(text.into());
    Run { program, script: None, env: Vec::new(), cwd: None, user: None, stdio, deadline_ms: None }
}

/// Has the launcher in a capsule prepare what all its machines need.
fn begin_launcher(link: &Arc<Link>, deadline: Duration) -> Result<(), Fault> {
    let (_, events) = link.open(Kind::Ask, &Order::Begin(inside::setup()), Vec::new())?;
    answer(&events, deadline, &|frame| match frame.message("outcome") {
        Ok(Outcome::Failed(fault)) => Err(fault),
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(FaultKind::Protocol, format!("understand the launcher: {error}"))),
    })
}

/// Has the agent do something.
fn ask(link: &Arc<Link>, request: Request, deadline: Duration) -> Result<(), Fault> {
    let (_, events) = link.ask(request, Vec::new())?;
    answer(&events, deadline, &super::done)
}

/// Waits for the end of what was asked for.
fn answer(
    events: &Receiver<Event>,
    deadline: Duration,
    done: &dyn Fn(&Frame) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let end = Instant::now() + deadline;
    loop {
        match events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Event::Frame(frame, _)) if frame.kind == Kind::Reply => {
                return done(&frame);
            }
            Ok(Event::Frame(..)) => {}
            Ok(Event::Gone(fault)) => {
                return Err(Fault { operation: "start a kernel: it has ended".into(), ..fault });
            }
            Err(_) => {
                let what = format!("start a kernel within {} s", deadline.as_secs_f32());
                return Err(Fault::new(FaultKind::Timeout, what));
            }
        }
    }
}

/// Nobody but us says anything of interest.
struct Greeted;

impl Handler for Greeted {
    fn take(&self, _: &Link, frame: Frame, _: Vec<OwnedFd>) -> Result<(), FrameError> {
        match frame.kind {
            Kind::Hello => frame.message::<Hello>("hello")?.agree().map(drop),
            // Of what has been told by then.
            Kind::Note | Kind::Credit => Ok(()),
            _ => Err(FrameError::Body("direction")),
        }
    }

    fn closed(&self, _: &Fault) {}
}
