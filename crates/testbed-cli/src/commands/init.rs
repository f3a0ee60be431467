use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;
use crate::terminal;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use testbed::spec::FILE_NAME;

/// Write a first `testbed.toml` to begin with.
///
/// A file that is there already is left as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder to write it to; the current one if none is given.
    #[arg(value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
}

/// Two machines that reach each other through a router: small, and every line is one to change.
const FIRST: &str = r#"# Two networks and the router between them. `testbed run` gives every test a fresh copy of all this.

[networks]
left = { subnet = "10.1.0.0/24" }
right = { subnet = "10.2.0.0/24" }

[machines.client]
interfaces = { left = "10.1.0.10" }
gateway = "10.1.0.1"

[machines.router]
interfaces = { left = "10.1.0.1", right = "10.2.0.1" }
router = true

[machines.server]
interfaces = { right = "10.2.0.10" }
gateway = "10.2.0.1"

# `run` is for a shell on the machine that `on` names; without `on` it is for one on the host.

[[tests]]
name = "the router has both of its addresses"
on = "router"
run = "grep -q 10.1.0.1 /proc/net/fib_trie && grep -q 10.2.0.1 /proc/net/fib_trie"

[[tests]]
name = "machines know each other's names"
on = "client"
run = "getent hosts server"
timeout = "10s"

[[tests]]
name = "what is written on one copy is not on another"
on = "server"
run = "test ! -e /root/mark && touch /root/mark"
"#;

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let folder = place.directory.as_deref().unwrap_or(Path::new("."));
        let path = folder.join(self.folder.as_deref().unwrap_or(Path::new(""))).join(FILE_NAME);
        let shown = path.strip_prefix(".").unwrap_or(&path).display();
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Failure::call(format!("{shown} is there already"))
                    .hint("`testbed check` tells what is wrong with it, if anything is"));
            }
            Err(error) => return Err(Failure::call(format!("cannot write {shown}: {error}"))),
        };
        file.write_all(FIRST.as_bytes()).map_err(|e| Failure::io(format!("write {shown}"), e))?;
        terminal::talk(&format!("{shown} is written; `testbed run` runs its tests\n"));
        Ok(Exit::Success)
    }
}
