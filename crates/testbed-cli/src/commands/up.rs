use crate::commands::keep::Told;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::images;
use crate::interrupt::Interrupts;
use crate::keepers::{self, About};
use crate::launched::Launched;
use crate::place::Place;
use crate::terminal;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use testbed::bed::HostOnly;
use testbed::{Fault, FaultKind};

/// Make the testbed and leave it running, until `down`.
///
/// Other commands reach it from the folder of its file, or by -t NAME from anywhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name it is up under; the testbed's own if none is given.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let begun = Instant::now();
        let interrupts = Interrupts::catch().map_err(|e| Failure::io("catch signals", e))?;
        let testbed = Arc::new(place.load_telling()?);
        let file = place.file()?;
        let file = file.canonicalize().map_err(|e| Failure::io(format!("find {}", file.display()), e))?;
        let name =
            keepers::name(self.name.as_deref().or(place.testbed.as_deref()).unwrap_or(testbed.name()))?;
        keepers::sweep();
        if keepers::find(name).is_some() {
            return Err(keepers::up_already(name));
        }
        if !HostOnly::suffices(&testbed) {
            // Here whoever waits sees what is built; the keeper finds it there.
            let engine = Launched::start()?;
            images::prepare(&testbed, &engine)?;
        }
        let program = std::env::current_exe().map_err(|e| Failure::io("find this program", e))?;
        let mut keeper = Command::new(program);
        keeper.arg("-C").arg(&file).args(["keep", "--name", name]);
        keeper.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().map_err(|e| Failure::io("start the keeper", e))?;
        let words = keeper.stdout.take();
        let keeper = Arc::new(Mutex::new(keeper));
        let its = Arc::clone(&keeper);
        // Nothing of a testbed outlives its keeper.
        interrupts.on_request(move || kill(&its));
        let mut line = String::new();
        let read = words.map(|words| BufReader::new(words).read_line(&mut line));
        match read.transpose().ok().and_then(|_| serde_json::from_str(&line).ok()) {
            Some(Told::Ready(about)) => {
                let machines = testbed.machines().len();
                ready(&about, place, machines, begun);
                Ok(Exit::Success)
            }
            Some(Told::Wrong { message, hint }) => {
                Err(hint.into_iter().fold(Failure::call(message), Failure::hint))
            }
            Some(Told::Failed(fault)) => Err((*fault).into()),
            None => {
                kill(&keeper);
                let fault =
                    Fault::new(FaultKind::Interrupted, "the keeper ended before the testbed was ready");
                Err(fault.into())
            }
        }
    }
}

fn kill(keeper: &Mutex<Child>) {
    let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
    // One that has ended is what is wanted.
    let _ = keeper.kill();
    let _ = keeper.wait();
}

fn ready(about: &About, place: &Place, machines: usize, begun: Instant) {
    let took = begun.elapsed().as_secs_f64();
    let name = &about.name;
    let nearby = keepers::about(&Place { testbed: None, ..place.clone() }).is_ok_and(|it| it.name == *name);
    let which = if nearby { String::new() } else { format!("-t {name} ") };
    let count = if machines == 1 { "1 machine".to_owned() } else { format!("{machines} machines") };
    terminal::talk(&format!(
        "{name} is up: {count}, after {took:.1} s; `testbed {which}status` shows them, `testbed {which}down` ends them\n"
    ));
}
