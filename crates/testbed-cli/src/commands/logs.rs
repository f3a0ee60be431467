use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use std::io::Write as _;
use testbed::control::{Ask, Client, Happening};
use testbed::{Fault, FaultKind};

/// Show what the services of a machine have written.
///
/// Of several, each line begins with the service's name. What programs of `exec --detach` wrote is there too.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Go on with what they write from now on.
    #[arg(short = 'f', long)]
    follow: bool,
    /// The machine.
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// One of its services; all if none.
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let client = keepers::client(place)?;
        let services = match &self.service {
            Some(service) => vec![service.clone()],
            None => services(&client, &self.machine)?,
        };
        let alone = services.len() == 1;
        // Each on a thread of its own, because several are followed at once.
        let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
            let started: Vec<_> = services
                .iter()
                .map(|service| {
                    let (client, machine, follow) = (&client, &self.machine, self.follow);
                    let show = move || show(client, machine, service, follow, alone);
                    if follow { Ok(scope.spawn(show)) } else { Err(show()) }
                })
                .collect();
            let ended = started.into_iter().map(|thread| match thread {
                Ok(thread) => thread.join().unwrap_or(Ok(())),
                Err(result) => result,
            });
            ended.collect()
        });
        results.into_iter().collect::<Result<(), Failure>>()?;
        Ok(Exit::Success)
    }
}

fn services(client: &Client, machine: &str) -> Result<Vec<String>, Failure> {
    let status = client.status()?;
    let found = status.machines.iter().find(|its| its.name == machine);
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = status.machines.iter().map(|machine| machine.name.as_str()).collect();
        let fault = Fault::new(FaultKind::NotFound, format!("no machine `{machine}`"));
        fault.hint(format!("there are: {}", names.join(", ")))
    })?;
    Ok(found.services.iter().map(|service| service.name.clone()).collect())
}

fn show(client: &Client, machine: &str, service: &str, follow: bool, alone: bool) -> Result<(), Failure> {
    let (machine, service) = (machine.to_owned(), service.to_owned());
    let mut talk = client.begin(&Ask::Logs { machine, service: service.clone(), follow })?;
    let mut lines = Lines { prefix: (!alone).then(|| format!("{service} | ")), rest: Vec::new() };
    loop {
        let written = match talk.next(None)? {
            Happening::Data(_, bytes) => lines.write(&bytes),
            Happening::Answer(_) => return lines.end().map_err(|e| Failure::io("write", e)),
            Happening::Note(_) | Happening::Reply(_) => Ok(()),
        };
        written.map_err(|e| Failure::io("write", e))?;
    }
}

/// Bytes as they come, or whole lines with something in front of each.
struct Lines {
    prefix: Option<String>,
    rest: Vec<u8>,
}

/// A line that is longer is cut.
const LONGEST: usize = 64 * 1024;

impl Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(prefix) = &self.prefix else { return put(bytes) };
        self.rest.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1) {
            out.extend_from_slice(prefix.as_bytes());
            out.extend(self.rest.drain(..end));
        }
        if self.rest.len() > LONGEST {
            out.extend_from_slice(prefix.as_bytes());
            out.append(&mut self.rest);
            out.push(b'\n');
        }
        put(&out)
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.rest.is_empty() { Ok(()) } else { self.write(b"\n") }
    }
}

fn put(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
