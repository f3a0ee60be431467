use crate::exit::Exit;
use crate::failure::Failure;
use crate::images;
use crate::interrupt::Interrupts;
use crate::keepers::{About, Claim, Sockets};
use crate::place::Place;
use crate::terminal::Style;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{SystemTime, UNIX_EPOCH};
use testbed::bed::{self, Bed};
use testbed::{Engine, Fault, host};

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
        let sockets = Sockets::claim()?;
        let engine = Engine::start(host::setup()?)?;
        let images = images::prepare(&testbed, &engine)?;
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let options = bed::Options { env: env.collect(), ..bed::Options::default() };
        let bed = Bed::up(&engine, &testbed, &images, &options)?;

        let (ended, end) = sync_channel::<()>(2);
        let (its, stop, tells) = (bed.clone(), testbed.deadlines().stop(), ended.clone());
        let down = move || {
            let killed = its.kill(stop);
            // Somebody may have asked for it before.
            let _ = tells.try_send(());
            killed
        };
        let server = sockets.open("control", &bed, Some(Arc::new(down)))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let about = About {
            name: self.name.clone(),
            file: file.canonicalize().unwrap_or(file),
            pid: std::process::id(),
            socket: server.path().to_owned(),
            since,
        };
        claim.tell(&about)?;
        interrupts.on_request(move || {
            // As above.
            let _ = ended.try_send(());
        });
        tell(&Told::Ready(about));
        // The sender lives as long as the server.
        let _ = end.recv();
        let killed = bed.kill(stop);
        drop((server, bed, images, engine));
        Ok(killed?)
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
