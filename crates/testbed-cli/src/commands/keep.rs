use crate::exit::Exit;
use crate::failure::Failure;
use crate::images;
use crate::interrupt::Interrupts;
use crate::keepers::{self, About, Claim, Sockets};
use crate::launched::Launched;
use crate::place::Place;
use crate::terminal::Style;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testbed::bed::{self, Bed};
use testbed::control::{Holder, Server};
use testbed::{Fault, FaultKind, host};

/// Keep a testbed until it is told to end. This is what `up` leaves behind.
///
/// Writes one line of JSON to standard output: that the testbed is ready, or why it is not.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name it is up under.
    #[arg(long, value_name = "NAME")]
    name: String,
}

/// What a keeper tells whoever started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// The testbed is ready.
    Ready(About),
    /// The call or the file is wrong.
    Wrong {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The testbed failed.
    Failed(Box<Fault>),
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let interrupts = Interrupts::catch().map_err(|e| Failure::io("catch signals", e))?;
        // Whoever closes the terminal does not mean this process. It fails only for one that leads a session already.
        let _ = rustix::process::setsid();
        match self.keep(place, &interrupts) {
            Ok(()) => Ok(Exit::Success),
            Err(failure) => {
                let exit = failure.exit();
                tell(&match failure {
                    Failure::Testbed(fault) => Told::Failed(fault),
                    Failure::Call { message, hint } => Told::Wrong { message, hint },
                    Failure::Io { doing, source } => Told::Failed(Box::new(Fault::system(doing, &source))),
                    other => {
                        let text = other.render(Style::new(false));
                        let message = text.trim_start_matches("error: ").trim_end().to_owned();
                        Told::Wrong { message, hint: None }
                    }
                });
                Ok(exit)
            }
        }
    }

    fn keep(&self, place: &Place, interrupts: &Interrupts) -> Result<(), Failure> {
        let file = place.file()?;
        let testbed = Arc::new(place.load()?.0);
        let claim = Claim::of(&self.name)?;
        let failed = |e| Failure::io(format!("write {}", claim.log().display()), e);
        let log = OpenOptions::new().create(true).append(true).open(claim.log()).map_err(failed)?;
        rustix::stdio::dup2_stderr(&log).map_err(|e| failed(e.into()))?;
        let sockets = Sockets::new()?;
        host::raise_open_files()?;
        let engine = Launched::start()?;
        let images = images::prepare(&testbed, &engine)?;
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let options = bed::Options { env: env.collect(), ..bed::Options::default() };
        let bed = Bed::up(&engine, &testbed, &images, &options)?;
        let (ends, end) = sync_channel(WAITING);
        let file = file.canonicalize().unwrap_or(file);
        let keeping = Arc::new(Keeping { sockets, file, kept: Mutex::default(), ends: ends.clone() });
        let about = keeping.keep(&self.name, claim, bed, None)?;
        interrupts.on_request(move || {
            // One that is full of ends is near its own.
            let _ = ends.try_send(End::All);
        });
        tell(&Told::Ready(about));
        let ended = keeping.wait(&end, testbed.deadlines().stop());
        drop((keeping, images, engine));
        Ok(ended?)
    }
}

/// Ends that may wait to be carried out.
const WAITING: usize = 16;

/// What ends.
enum End {
    /// A testbed has: what serves it may go.
    One(String),
    /// This process shall.
    All,
}

/// All that a keeper keeps: a testbed, and its forks.
struct Keeping {
    sockets: Sockets,
    file: PathBuf,
    kept: Mutex<BTreeMap<String, Kept>>,
    ends: SyncSender<End>,
}

/// A testbed that is kept. Its name is free again once it has ended.
struct Kept {
    bed: Bed,
    server: Server,
    claim: Option<Claim>,
}

impl Keeping {
    /// Serves a testbed, and lets others know of it.
    fn keep(
        self: &Arc<Self>,
        name: &str,
        claim: Claim,
        bed: Bed,
        copy_of: Option<String>,
    ) -> Result<About, Failure> {
        let holder = Held { keeping: Arc::downgrade(self), name: name.to_owned() };
        let server = self.sockets.open(name, &bed, Some(Arc::new(holder)))?;
        let about = About {
            name: name.to_owned(),
            file: self.file.clone(),
            pid: std::process::id(),
            socket: server.path().to_owned(),
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            copy_of,
        };
        claim.tell(&about)?;
        self.kept().insert(name.to_owned(), Kept { bed, server, claim: Some(claim) });
        Ok(about)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps until nothing is left to be kept.
    fn wait(&self, end: &Receiver<End>, stop: Duration) -> Result<(), Fault> {
        let mut result = Ok(());
        // The sender lives as long as this does.
        while let Ok(end) = end.recv() {
            let mut kept = self.kept();
            let ended: Vec<Kept> = match end {
                End::One(name) => kept.remove(&name).into_iter().collect(),
                End::All => std::mem::take(&mut *kept).into_values().collect(),
            };
            let is_last = kept.is_empty();
            drop(kept);
            for Kept { bed, server, claim } in ended {
                result = result.and(bed.kill(stop));
                drop((server, bed, claim));
            }
            if is_last {
                break;
            }
        }
        result
    }
}

/// What clients of one testbed can ask of its keeper.
struct Held {
    keeping: Weak<Keeping>,
    name: String,
}

impl Held {
    fn keeping(&self) -> Result<Arc<Keeping>, Fault> {
        self.keeping.upgrade().ok_or_else(|| Fault::new(FaultKind::State, "ask a keeper that ends"))
    }
}

impl Holder for Held {
    fn down(&self) -> Result<(), Fault> {
        let keeping = self.keeping()?;
        let bed = keeping.kept().get(&self.name).map(|kept| kept.bed.clone());
        let Some(bed) = bed else { return Ok(()) };
        let killed = bed.kill(bed.spec().deadlines().stop());
        let claim = keeping.kept().get_mut(&self.name).and_then(|kept| kept.claim.take());
        drop((claim, bed));
        // Somebody may have asked for it before.
        let _ = keeping.ends.try_send(End::One(self.name.clone()));
        killed
    }

    fn fork(&self, bed: &Bed, name: &str, snapshot: Option<&str>) -> Result<(), Fault> {
        let keeping = self.keeping()?;
        let refused = |failure: Failure| match failure {
            Failure::Testbed(fault) => *fault,
            Failure::Call { message, hint } => {
                let fault = Fault::new(FaultKind::Exists, format!("fork: {message}"));
                hint.into_iter().fold(fault, Fault::hint)
            }
            other => Fault::new(FaultKind::System, other.render(Style::new(false)).trim_end()),
        };
        let name = keepers::name(name).map_err(refused)?;
        let claim = Claim::of(name).map_err(refused)?;
        let fork = bed.fork(snapshot)?;
        keeping.keep(name, claim, fork, Some(self.name.clone())).map(|_| ()).map_err(refused)
    }
}

/// Tells whoever reads; after the first word nobody does.
fn tell(told: &Told) {
    if let Ok(mut line) = serde_json::to_vec(told) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
