//! Layers that are made by running something in a throwaway machine.

use super::proxy::{Proxy, SiteProxy};
use crate::engine::Engine;
use crate::machine::{Accelerator, Condition, Hardware, Machine, make_template};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed_agent::agent::{Exit, Tool};
use testbed_agent::launch::{self, IDS, Ids, Order, Root, Upper};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// Something to be run in a machine whose changes become a layer.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The layers of its root, top first.
    pub layers: &'a [PathBuf],
    /// The host's own root lies below them.
    pub host: bool,
    /// A folder with `upper`, where its changes go, and `work`.
    pub folder: &'a Path,
    /// The program and its arguments.
    pub program: &'a [String],
    /// Layers of another root, top first, which the program finds as a tar archive in its standard input.
    pub input: Option<&'a [PathBuf]>,
    /// Variables beside the fixed ones of every machine.
    pub env: &'a [(String, String)],
    /// It must reach what the host reaches, in this way.
    pub network: Option<WayOut<'a>>,
    /// Kill it after so long.
    pub deadline: Duration,
}

/// How what runs reaches others: by HTTP alone, and never what is this host's own, but for mirrors.
#[derive(Clone, Copy, Debug)]
pub struct WayOut<'a> {
    /// The proxies of the site, which it goes through.
    pub site: &'a SiteProxy,
    /// URIs of mirrors that may be anywhere, on this host's loopback too.
    pub mirrors: &'a [String],
}

/// Runs what builds layers. A trait, so that what decides which layers there are can be tested without machines.
pub trait Builder {
    /// Runs a job to its end, with its output and errors to `log`; no process of it is left afterwards.
    ///
    /// # Errors
    /// The machine could not be made, or the deadline passed ([`FaultKind::Timeout`]). That the program fails is told
    /// by its [`Exit`].
    fn run(&self, job: &Job<'_>, log: &mut dyn Write) -> Result<Exit, Fault>;

    /// Starts a kernel of its own in a machine with these layers, top first, whose changes go to `folder` as for a [`Job`],
    /// and leaves there what others start from. Without a folder nothing stays.
    ///
    /// # Errors
    /// The machine could not be made, the kernel did not start, or the deadline passed.
    fn boot(
        &self,
        layers: &[PathBuf],
        folder: Option<&Path>,
        hardware: &Hardware,
        accelerator: &Accelerator,
        deadline: Duration,
    ) -> Result<(), Fault>;

    /// How many ids the files of its machines can have, if it knows.
    fn ids(&self) -> Option<u32> {
        None
    }
}

/// Builds in machines of an engine.
#[derive(Clone)]
pub struct EngineBuilder {
    engine: Engine,
}

impl EngineBuilder {
    /// Builds in machines of this engine.
    pub fn new(engine: Engine) -> EngineBuilder {
        EngineBuilder { engine }
    }
}

/// From the order to make a machine until its agent answers.
const START: Duration = Duration::from_secs(10);
/// From a kill until nothing is left: a file system that is being written may hold processes up.
const STOP: Duration = Duration::from_secs(60);
const NAME: &str = "builder";
const SOURCE: &str = "source";
/// A machine that is only read makes nothing but places for what is mounted.
const SOURCE_CHANGES: u64 = 1 << 20;

impl Builder for EngineBuilder {
    fn ids(&self) -> Option<u32> {
        Some(match self.engine.ids() {
            Ids::Range(_) => IDS,
            Ids::Delegated(count) => count,
            Ids::Single => 1,
        })
    }

    fn run(&self, job: &Job<'_>, log: &mut dyn Write) -> Result<Exit, Fault> {
        let fabric = Fabric::make(&self.engine)?;
        let root = Root { layers: texts(job.layers)?, host: job.host };
        let source = job.input.map(|layers| self.source(texts(layers)?)).transpose()?;
        let spec = launch::Machine {
            fabric: Some(fabric.number),
            env: job.env.to_vec(),
            ..launch::Machine::new(NAME, root, Upper::Folder(text(job.folder)?))
        };
        let machine = self.engine.machine(NAME, spec)?;
        let result = machine.wait_started(START).and_then(|()| run_in(&machine, job, source.as_ref(), log));
        end(&machine, result)
    }

    fn boot(
        &self,
        layers: &[PathBuf],
        folder: Option<&Path>,
        hardware: &Hardware,
        accelerator: &Accelerator,
        deadline: Duration,
    ) -> Result<(), Fault> {
        let root = Root { layers: texts(layers)?, host: false };
        let upper = match folder {
            Some(folder) => Upper::Folder(text(folder)?),
            None => Upper::Memory(hardware.jail_files()),
        };
        let spec = launch::Machine::new(NAME, root, upper);
        let jail = self.engine.machine(NAME, spec)?;
        let made = || make_template(&jail, hardware, accelerator, deadline);
        let result = jail.wait_started(START).and_then(|()| made());
        end(&jail, result)
    }
}

/// Ends a builder with what it has done.
fn end<T>(machine: &Machine, result: Result<T, Fault>) -> Result<T, Fault> {
    // One that could not be made has nothing to be waited for.
    let ended = match machine.condition() {
        Condition::Stopped => Ok(()),
        _ => machine.kill(STOP),
    };
    let result = result?;
    ended?;
    Ok(result)
}

fn text(path: &Path) -> Result<String, Fault> {
    let invalid = || Fault::new(FaultKind::Invalid, "use a folder whose name is not UTF-8");
    path.to_str().map(str::to_owned).ok_or_else(|| invalid().at(path.display().to_string()))
}

fn texts(paths: &[PathBuf]) -> Result<Vec<String>, Fault> {
    paths.iter().map(|path| text(path)).collect()
}

impl EngineBuilder {
    /// A machine that nothing happens in but that its root is read.
    fn source(&self, layers: Vec<String>) -> Result<Machine, Fault> {
        let root = Root { layers, host: false };
        self.engine.machine(SOURCE, launch::Machine::new(SOURCE, root, Upper::Memory(SOURCE_CHANGES)))
    }
}

fn run_in(
    machine: &Machine,
    job: &Job<'_>,
    source: Option<&Machine>,
    log: &mut dyn Write,
) -> Result<Exit, Fault> {
    let mut command = machine.command(job.program.iter().cloned()).cwd("/").deadline(job.deadline);
    let start = |way: WayOut<'_>| Proxy::start(&machine.engine(), machine.number(), way.site, way.mirrors);
    let proxy = job.network.map(start).transpose()?;
    if let Some(proxy) = &proxy {
        let url = format!("http://{}", proxy.address());
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
            command = command.env(name, &url);
        }
    }
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
    let (input, archive) = match source {
        Some(source) => {
            let (input, archive) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe")?;
            (Some(input), Some((source, std::fs::File::from(archive))))
        }
        None => (None, None),
    };
    let mut running = command.spawn_with(input, theirs, None)?;
    std::thread::scope(|scope| {
        let packed = archive.map(|(source, mut archive)| {
            scope.spawn(move || source.stream_out(Tool::Pack { path: "/".into() }, &mut archive))
        });
        let end = scope.spawn(move || {
            let end = running.wait(None);
            // Whatever it left behind would go on writing, and hold the output open.
            machine.start_kill().and(end)
        });
        let mut output = std::fs::File::from(output);
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => log.write_all(&buffer[..n]).doing("write the log")?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::system("read the output of a builder", &error)),
            }
        }
        let packed = packed.map_or(Ok(0), |packed| {
            packed.join().unwrap_or_else(|_| Err(Fault::new(FaultKind::State, "wait for an archive")))
        });
        match end.join() {
            // A program that fails reads no further; why it does is what matters.
            Ok(Ok((exit, false))) if exit.success() => packed.map(|_| exit),
            Ok(Ok((exit, false))) => Ok(exit),
            Ok(Ok((_, true))) => {
                Err(Fault::new(FaultKind::Timeout, format!("finish within {} s", job.deadline.as_secs_f32())))
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::new(FaultKind::State, "wait for a builder")),
        }
    })
}

/// The files that a builder sees over those of its image.
struct Fabric<'a> {
    engine: &'a Engine,
    number: u32,
}

impl Fabric<'_> {
    fn make(engine: &Engine) -> Result<Fabric<'_>, Fault> {
        let number = engine.number();
        let files = vec![(
            "/etc/hosts".to_owned(),
            format!("127.0.0.1 localhost {NAME}\n::1 localhost ip6-localhost ip6-loopback\n"),
        )];
        engine.order(&Order::MakeFabric { fabric: number, networks: Vec::new(), files })?;
        Ok(Fabric { engine, number })
    }
}

impl Drop for Fabric<'_> {
    fn drop(&mut self) {
        // If the launcher is gone, so is the fabric.
        let _ = self.engine.order(&Order::DropFabric { fabric: self.number });
    }
}
