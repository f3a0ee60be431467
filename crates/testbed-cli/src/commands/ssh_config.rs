use super::output::print;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use std::fmt::Write as _;

/// Write a configuration for ssh(1) that reaches the machines without any route to them.
///
/// `testbed ssh-config > ssh.conf`, then `ssh -F ssh.conf MACHINE`. The machines need an SSH server of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let socket = keepers::socket(place)?;
        let program = std::env::current_exe().map_err(|e| Failure::io("find this program", e))?;
        let status = keepers::client(place)?.status()?;
        let mut text = String::new();
        for machine in status.machines {
            let name = machine.name;
            // Writing to a string never fails.
            let _ = write!(
                text,
                "Host {name}
  HostName {name}
  User root
  ProxyCommand env TESTBED_CONTROL={} {} connect {name} %p
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR

",
                quoted(&socket.to_string_lossy()),
                quoted(&program.to_string_lossy()),
            );
        }
        print(&text)?;
        Ok(Exit::Success)
    }
}

/// A word for the shell that runs a proxy command; `%` is ssh's own (ssh_config(5), TOKENS).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''").replace('%', "%%"))
}
