use super::feed::{Noise, Packets, Take};
use super::input::{Input, Source};
use super::leaves::Leaves;
use super::output::{Out, Output};
use super::reading::{Passing, Reading};
use crate::exit::Exit;
use crate::failure::Failure;
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testbed_subunit::stream::{Code, Prefix, Sink};
use testbed_subunit::v2::Packet;
use testbed_subunit::{EventRef, v2};

/// Make one stream of several, as they come: each event keeps where it is from as its route code.
///
/// Codes are 0, 1, 2 and so on, or what stands before a `=`. What has a route already gets the code in front of it, so that
/// streams can be combined again and again. Events come out in the order in which they are read.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Files, pipes and sockets; `-` is standard input. Its code may stand before it: `worker-1=one.subunit`.
    #[arg(value_name = "[CODE=]FILE")]
    files: Vec<String>,
    /// Run this in a shell, and read what it writes. May be repeated; they run at once.
    #[arg(short, long = "command", value_name = "[CODE=]COMMAND")]
    commands: Vec<String>,
    /// Standard input is a stream, too: the bytes of its files `stdin` go to the command that their route code leads to,
    /// which may itself be a `combine --stdin`.
    #[arg(long, requires = "commands")]
    stdin: bool,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    /// Ends with 1 where a command did not end with 0.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (files, commands) = (named(&self.files), named(&self.commands));
        let mut codes = Codes::default();
        if self.stdin && files.iter().any(|(_, file)| *file == "-") {
            return Err(Failure::call(
                "standard input is a stream of events, or of input for commands, and not both",
            ));
        }
        if files.is_empty() && commands.is_empty() {
            return Err(Failure::call("there is nothing to combine")
                .hint("name files, or commands by `--command`; `-` is standard input"));
        }
        let out = self.output.open()?;
        let passing = Passing::new(&self.reading, Noise::Events, &out);
        let packets = RefCell::new(v2::Writer::new(out.clone()));
        let mut sources = Vec::new();
        for (code, file) in files {
            sources.push((codes.next(code)?, Source::open(Path::new(file))?));
        }
        let (mut running, mut leaves) = (Vec::new(), Vec::new());
        for (code, command) in commands {
            let code = codes.next(code)?;
            let (mut child, source) = start(command, self.stdin)?;
            leaves.extend(child.stdin.take().map(|stdin| (code.clone(), stdin)));
            running.push((command, child));
            sources.push((code, source));
        }
        if self.stdin {
            Leaves::new(leaves).feed()?;
        }
        // Each has a sink of its own, which writes to the one that all share.
        let sinks: Vec<_> =
            sources.iter().map(|(code, _)| RefCell::new(Leaf::new(code.clone(), &packets))).collect();
        let inputs = sources.into_iter().zip(&sinks).map(|((_, source), sink)| {
            let feed = Packets::new(source.is_live(), passing.patience, passing.noise, sink, out.clone());
            Input { source, feed }
        });
        passing.read_all(inputs.collect(), &packets, &mut |_| Ok(None))?;
        passing.finish(&packets)?;
        drop(sinks);
        ended(running)
    }
}

/// The code before the first `=`, if there is one, and what is behind it. What has a `/` or a space before its `=` is a path
/// or a command as a whole.
fn named(words: &[String]) -> Vec<(Option<&str>, &str)> {
    let split = words.iter().map(|word| match word.split_once('=') {
        Some((code, rest)) if !code.is_empty() && !code.contains(['/', ' ', '\t']) => (Some(code), rest),
        _ => (None, word.as_str()),
    });
    split.collect()
}

#[derive(Default)]
struct Codes {
    given: HashSet<String>,
    next: u32,
}

impl Codes {
    /// What was asked for, or the next number that is free.
    fn next(&mut self, asked: Option<&str>) -> Result<Code, Failure> {
        let mut code = asked.map(str::to_owned).unwrap_or_default();
        while code.is_empty() {
            code = Some(self.next.to_string()).filter(|code| !self.given.contains(code)).unwrap_or_default();
            self.next += 1;
        }
        if !self.given.insert(code.clone()) {
            return Err(Failure::call(format!("two inputs have the code `{code}`"))
                .hint("their events could not be told apart: give them codes of their own"));
        }
        Code::new(&code).map_err(|e| Failure::call(format!("{code}: {e}")))
    }
}

fn start(command: &str, has_input: bool) -> Result<(Child, Source), Failure> {
    let failed = |e: io::Error| Failure::call(format!("cannot run `{command}`: {e}"));
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(if has_input { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    Ok((child, Source::of_pipe(stdout.into(), format!("the output of `{command}`"))))
}

fn ended(running: Vec<(&str, Child)>) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    for (command, mut child) in running {
        let status = child.wait().map_err(|e| Failure::io(format!("wait for `{command}`"), e))?;
        if !status.success() {
            crate::terminal::talk(&format!("`{command}` ended with {status}\n"));
            exit = Exit::TestsFailed;
        }
    }
    Ok(exit)
}

/// One of the inputs. Its packets are forwarded as they are, but for their routes.
struct Leaf<'a> {
    code: Code,
    forwarder: v2::Forwarder,
    packets: &'a RefCell<v2::Writer<Out>>,
    events: Prefix<Shared<'a>>,
}

impl<'a> Leaf<'a> {
    fn new(code: Code, packets: &'a RefCell<v2::Writer<Out>>) -> Leaf<'a> {
        let events = Prefix::new(code.clone(), Shared(packets));
        Leaf { code, forwarder: v2::Forwarder::new(), packets, events }
    }
}

impl Take for Leaf<'_> {
    fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let Ok(pieces) = self.forwarder.prefix(packet, &self.code) else {
            // It has no room for a longer route, so that it becomes two.
            return self.events.event(packet.event);
        };
        let mut packets = self.packets.borrow_mut();
        pieces.slices().into_iter().try_for_each(|slice| packets.get_mut().write_all(slice))
    }

    fn other(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.events.event(event)
    }
}

/// A sink that several streams end in. Who made it ends it.
struct Shared<'a>(&'a RefCell<v2::Writer<Out>>);

impl Sink for Shared<'_> {
    type Error = io::Error;

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        self.0.borrow_mut().event(event)
    }
}
