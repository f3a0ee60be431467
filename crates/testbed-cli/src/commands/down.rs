use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use crate::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::time::Duration;
use testbed::control::{Ask, Client};
use testbed::{Fault, FaultKind};

/// How long a testbed may take to end.
const DEADLINE: Duration = Duration::from_secs(60);

/// End a testbed that is up, and all of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        keepers::sweep();
        let about = keepers::about(place)?;
        let pid = i32::try_from(about.pid).ok().and_then(Pid::from_raw);
        let keeper = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let asked = Client::connect(&about.socket).and_then(|c| c.ask_within(&Ask::Down, Some(DEADLINE)));
        // With forks, the keeper has others to keep.
        let others = keepers::all().iter().any(|it| it.pid == about.pid && it.name != about.name);
        if let Some(keeper) = keeper.filter(|_| !others) {
            let wait = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&keeper, PollFlags::IN)], Some(&wait));
        }
        // What counts is that it has gone, not what it could still say of it.
        if keepers::find(&about.name).is_some() {
            asked?;
            return Err(
                Fault::new(FaultKind::Timeout, format!("end the keeper, process {}", about.pid)).into()
            );
        }
        keepers::sweep();
        terminal::talk(&format!("{} is down\n", about.name));
        Ok(Exit::Success)
    }
}
