//! Sentences: what a test says to a machine.

use super::{ANSWER, Machine, Output};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testbed_agent::agent::{Condition, Family, Program, Report, Tool};
use testbed_agent::{Fault, FaultKind};

/// How long a command of [`Machine::succeed`] and [`Machine::fail`] may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// Why a sentence does not hold.
#[derive(Clone, Debug)]
pub enum Unmet {
    /// What is under test did not do what was said.
    Failed {
        /// The machine.
        machine: String,
        /// What was run or waited for.
        what: String,
        /// What became of the command, if one was run.
        output: Option<Box<Output>>,
    },
    /// The testbed failed.
    Testbed(Box<Fault>),
}

impl From<Fault> for Unmet {
    fn from(fault: Fault) -> Unmet {
        Unmet::Testbed(Box::new(fault))
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::Testbed(fault) => write!(f, "the testbed failed: {fault}"),
            Unmet::Failed { machine, what, output } => {
                write!(f, "{machine}: {what}")?;
                let Some(output) = output else { return Ok(()) };
                write!(f, ": ended with {}", output.exit.shell_code())?;
                if output.timed_out {
                    f.write_str(" (its deadline had passed)")?;
                }
                for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                    if !bytes.is_empty() {
                        write!(f, "\n--- {name}\n{}", String::from_utf8_lossy(bytes).trim_end())?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Unmet {}

/// What is there once systemd takes orders, and what ends once it has started all that it starts (systemctl(1)).
pub(super) const BOOTS: &str = "/run/systemd/private";
pub(super) const BOOTED: &str = "systemctl is-system-running --wait";

impl Machine {
    /// Waits until systemd, which is its process 1, has started all that it starts.
    ///
    /// # Errors
    /// [`FaultKind::Timeout`] when that takes longer than `deadline`.
    pub(crate) fn wait_booted(&self, deadline: Duration) -> Result<(), Fault> {
        self.tool(Tool::Wait(Condition::File { path: BOOTS.into() }), deadline)?;
        let ended = self.shell(BOOTED).deadline(deadline).output()?;
        if ended.timed_out {
            let what = format!("boot within {} s", deadline.as_secs_f32());
            return Err(self
                .fault(FaultKind::Timeout, what)
                .hint("`systemctl list-jobs` in it says what is waited for"));
        }
        Ok(())
    }

    /// Has systemd, which is its process 1, end all and switch it off.
    ///
    /// # Errors
    /// When it goes on past the deadline.
    pub(crate) fn switch_off(&self, deadline: Duration) -> Result<(), Fault> {
        self.expect_end();
        let end = Instant::now() + deadline;
        self.shell("systemctl poweroff --no-block").deadline(deadline).status()?;
        self.wait_ended(end.saturating_duration_since(Instant::now())).map(drop)
    }

    /// Runs shell text that must end with status 0; gives its standard output.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if it does not.
    pub fn succeed(&self, text: &str) -> Result<String, Unmet> {
        let output = self.shell(text).deadline(COMMAND_DEADLINE).output()?;
        if output.success() {
            Ok(output.text())
        } else {
            Err(self.unmet(format!("`{text}` must succeed"), output))
        }
    }

    /// Runs shell text that must end with another status than 0; gives its standard output.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if it succeeds.
    pub fn fail(&self, text: &str) -> Result<String, Unmet> {
        let output = self.shell(text).deadline(COMMAND_DEADLINE).output()?;
        if output.success() {
            Err(self.unmet(format!("`{text}` must fail"), output))
        } else {
            Ok(output.text())
        }
    }

    /// Runs shell text again and again until it ends with status 0.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if it has not within `deadline`.
    pub fn wait_until_succeeds(&self, text: &str, deadline: Duration) -> Result<(), Unmet> {
        let program = Program::Shell(text.into());
        self.wait_for(
            Condition::Success { program, interval_ms: 100 },
            &format!("`{text}` must succeed"),
            deadline,
        )
    }

    /// Waits until something listens on a TCP port.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if nothing does within `deadline`.
    pub fn wait_for_port(&self, port: u16, deadline: Duration) -> Result<(), Unmet> {
        let condition = Condition::Port { udp: false, port, address: None };
        self.wait_for(condition, &format!("something must listen on port {port}"), deadline)
    }

    /// Waits until a path exists.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if it does not within `deadline`.
    pub fn wait_for_file(&self, path: &str, deadline: Duration) -> Result<(), Unmet> {
        self.wait_for(Condition::File { path: path.into() }, &format!("{path} must appear"), deadline)
    }

    /// Waits until an address is on an interface.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if it is not within `deadline`.
    pub fn wait_for_address(&self, address: IpAddr, deadline: Duration) -> Result<(), Unmet> {
        self.wait_for(
            Condition::Address { address },
            &format!("it must have the address {address}"),
            deadline,
        )
    }

    /// The addresses that its interfaces have now, those of `lo` and those for the link alone left out: the name of the
    /// interface, and the address. Also those that programs inside have given it.
    ///
    /// # Errors
    /// What the machine says.
    pub fn addresses(&self) -> Result<Vec<(String, IpAddr)>, Fault> {
        self.find_addresses(None, None, ANSWER)
    }

    /// Waits until an interface, or any if none is named, has an address of this kind.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if none has within `deadline`.
    pub fn wait_for_any_address(
        &self,
        interface: Option<&str>,
        family: Family,
        deadline: Duration,
    ) -> Result<IpAddr, Unmet> {
        let failed = || Unmet::Failed {
            machine: self.name().into(),
            what: format!("it must have an address within {} s", deadline.as_secs_f32()),
            output: None,
        };
        match self.find_addresses(interface, Some(family), deadline) {
            Ok(all) => all.into_iter().map(|its| its.1).find(|ip| family.holds(*ip)).ok_or_else(failed),
            Err(fault) if fault.kind == FaultKind::Timeout => Err(failed()),
            Err(fault) => Err(fault.into()),
        }
    }

    fn find_addresses(
        &self,
        interface: Option<&str>,
        wait: Option<Family>,
        deadline: Duration,
    ) -> Result<Vec<(String, IpAddr)>, Fault> {
        let tool = Tool::Addresses { interface: interface.map(str::to_owned), wait };
        match self.tool(tool, deadline)? {
            Report::Addresses(all) => Ok(all),
            other => Err(self.fault(FaultKind::Protocol, format!("understand the addresses {other:?}"))),
        }
    }

    /// Waits for any condition that the agent knows.
    ///
    /// # Errors
    /// [`Unmet::Failed`] if it does not hold within `deadline`; `what` says what was waited for.
    pub fn wait_for(&self, condition: Condition, what: &str, deadline: Duration) -> Result<(), Unmet> {
        match self.tool(Tool::Wait(condition), deadline) {
            Ok(_) => Ok(()),
            Err(fault) if fault.kind == FaultKind::Timeout => Err(Unmet::Failed {
                machine: self.name().into(),
                what: format!("{what} within {} s", deadline.as_secs_f32()),
                output: None,
            }),
            Err(fault) => Err(fault.into()),
        }
    }

    fn unmet(&self, what: String, output: Output) -> Unmet {
        Unmet::Failed { machine: self.name().into(), what, output: Some(Box::new(output)) }
    }
}
