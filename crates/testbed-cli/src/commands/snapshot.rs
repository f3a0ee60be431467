use super::output::Output;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use crate::terminal;
use testbed::control::{Answer, Ask, Client, SnapshotStatus};
use testbed::{Fault, FaultKind};

/// Take a snapshot of machines, or list the snapshots there are.
///
/// It holds their files, and the memory of those with kernels of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Snapshot {
    /// Its name. Without one, the snapshots are listed.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The machines; all if none is named.
    #[arg(value_name = "MACHINE")]
    machines: Vec<String>,
    /// Delete this snapshot instead. What stands on it goes on.
    #[arg(long, requires = "name", conflicts_with = "machines")]
    delete: bool,
    /// With --delete: those that were made above it go too.
    #[arg(long, requires = "delete")]
    children: bool,
    #[command(flatten)]
    output: Output,
}

/// Put machines back on a snapshot.
///
/// They end at once and start again; those with kernels of their own go on where they were.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The snapshot.
    #[arg(value_name = "NAME")]
    name: String,
    /// The machines; all of the snapshot if none is named.
    #[arg(value_name = "MACHINE")]
    machines: Vec<String>,
}

/// Make a second testbed beside this one, with the same machines, addresses and files.
///
/// It is up under a name of its own, and goes on when this one ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    /// The name of the new one, for -t.
    #[arg(value_name = "NAME")]
    name: String,
    /// As it was in this snapshot, and not as it is now.
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
}

impl Snapshot {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let client = keepers::client(place)?;
        let Some(name) = self.name else {
            return list(&client, self.output);
        };
        let ask = if self.delete {
            Ask::DeleteSnapshot { name, children: self.children }
        } else {
            Ask::Snapshot { name, machines: self.machines }
        };
        client.ask_within(&ask, None)?;
        Ok(Exit::Success)
    }
}

impl Rollback {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let ask = Ask::Rollback { name: self.name, machines: self.machines };
        keepers::client(place)?.ask_within(&ask, None)?;
        Ok(Exit::Success)
    }
}

impl Fork {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let name = keepers::name(&self.name)?.to_owned();
        keepers::client(place)?.ask_within(&Ask::Fork { name, snapshot: self.snapshot }, None)?;
        terminal::talk(&format!("{0} is up: `testbed -t {0} status`\n", self.name));
        Ok(Exit::Success)
    }
}

fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let mut all: Vec<SnapshotStatus> = Vec::new();
    loop {
        let answer = client.ask(&Ask::Snapshots { from: all.len() as u32 })?;
        let Answer::Snapshots { mut snapshots, more } = answer else {
            return Err(Fault::new(FaultKind::Protocol, "understand the list of snapshots").into());
        };
        let is_last = !more || snapshots.is_empty();
        all.append(&mut snapshots);
        if is_last {
            break;
        }
    }
    output.write(&all, || {
        let rows = all.iter().map(|snapshot| {
            let mark = if snapshot.current { " *" } else { "" };
            let parent = snapshot.parent.clone().unwrap_or_else(|| "-".into());
            vec![format!("{}{mark}", snapshot.name), parent, snapshot.machines.join(" ")]
        });
        terminal::table(&["NAME", "ON", "MACHINES"], rows)
    })?;
    Ok(Exit::Success)
}
