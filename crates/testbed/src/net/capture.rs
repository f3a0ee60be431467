//! Captures of a whole network, from outside its machines.
//!
//! The launcher selects the network for a packet socket ([`Order::Capture`](testbed_agent::launch::Order::Capture));
//! here it is started. It sees every frame of the network once: what the kernel passes between machines, and what
//! passes the trunk.

use super::wake::{Bell, until};
use crate::machine::RunningTool;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed_agent::agent::Report;
use testbed_agent::capture::{Recorder, link_of};
use testbed_agent::filter::Filter;
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::packet::{PacketSocket, Ring, RingSize};

/// What to capture.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the network, as it stands in the capture.
    pub name: String,
    /// Which packets, as docs/reference/filters.md describes it.
    pub filter: Filter,
    /// End after so many packets; 0 for never.
    pub count: u64,
    /// Bytes kept of each packet; 0 for all.
    pub snap: u32,
    /// End after so long.
    pub deadline: Option<Duration>,
}

impl Options {
    /// Everything on the network of this name, until the capture is stopped.
    pub fn all(name: impl Into<String>) -> Options {
        Options { name: name.into(), filter: Filter::all(), count: 0, snap: 0, deadline: None }
    }
}

/// What was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Packets that matched and were written.
    pub packets: u64,
    /// Packets that the kernel dropped because nobody read fast enough.
    pub dropped: u64,
}

/// A capture that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Capture {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<Result<Summary, Fault>>>,
}

impl Capture {
    /// Starts a capture that is written as pcapng to `output`, as it comes. Whatever is sent once this has returned is
    /// in it. `socket` is what the launcher handed over.
    ///
    /// # Errors
    /// A filter too long for the kernel, and limits of the system.
    pub fn start<W: Write + Send + 'static>(
        socket: OwnedFd,
        options: Options,
        output: W,
    ) -> Result<Capture, Fault> {
        let mut recorder = Recorder::new(options.filter, options.count, options.snap);
        let ring = ring(socket, &mut recorder, options.name)?;
        let bell = Arc::new(Bell::new().doing("make a bell")?);
        let rung = bell.clone();
        let end = options.deadline.map(|d| Instant::now() + d);
        let thread = std::thread::Builder::new()
            .name("testbed-capture".into())
            .spawn(move || fill(recorder, ring, output, &rung, end))
            .doing("start a capture")?;
        Ok(Capture { bell, thread: Some(thread) })
    }

    /// Passes on a capture that runs somewhere else, as it comes.
    ///
    /// # Errors
    /// Limits of the system.
    pub(super) fn pass_on<W: Write + Send + 'static>(
        tool: RunningTool,
        packets: OwnedFd,
        deadline: Option<Duration>,
        output: W,
    ) -> Result<Capture, Fault> {
        let bell = Arc::new(Bell::new().doing("make a bell")?);
        let rung = bell.clone();
        let end = deadline.map(|d| Instant::now() + d);
        let thread = std::thread::Builder::new()
            .name("testbed-capture".into())
            .spawn(move || pass_all(&tool, File::from(packets), output, &rung, end))
            .doing("start a capture")?;
        Ok(Capture { bell, thread: Some(thread) })
    }

    /// Stops the capture; what was sent before is in it.
    ///
    /// # Errors
    /// Those of writing, but for a reader that has gone.
    pub fn stop(mut self) -> Result<Summary, Fault> {
        self.bell.ring();
        self.join()
    }

    /// Waits until the capture ends by its count, its deadline or because nobody reads any more.
    ///
    /// # Errors
    /// As [`Capture::stop`].
    pub fn wait(mut self) -> Result<Summary, Fault> {
        self.join()
    }

    fn join(&mut self) -> Result<Summary, Fault> {
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended.unwrap_or_else(|| Err(Fault::new(FaultKind::State, "capture: its output panicked")))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.bell.ring();
            // Whoever drops it does not want to know.
            let _ = self.join();
        }
    }
}

/// Starts a packet socket as the launcher hands it over, and tells the recorder of its only interface.
fn ring(socket: OwnedFd, recorder: &mut Recorder, name: String) -> Result<Ring, Fault> {
    let socket = PacketSocket::from(socket);
    let (index, hardware) = socket.selected().doing("use a packet socket")?;
    let program = recorder
        .program(Some(link_of(hardware)))
        .map_err(|error| Fault::new(FaultKind::Invalid, error.to_string()))?;
    socket.filter(&program).doing("set the filter")?;
    let ring = Ring::new(socket, RingSize::default()).doing("share memory with the packet socket")?;
    recorder.describe(index, link_of(hardware), || name);
    ring.start(index).doing("start the capture")?;
    Ok(ring)
}

fn fill<W: Write>(
    mut recorder: Recorder,
    mut ring: Ring,
    mut output: W,
    bell: &Bell,
    end: Option<Instant>,
) -> Result<Summary, Fault> {
    let written = write(&mut recorder, &mut output)
        .doing("write the capture")
        .and_then(|()| record(&mut recorder, &mut ring, &mut output, bell, end))
        .and_then(|()| {
            recorder.count(ring.statistics().doing("count the packets")?);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            recorder.finish(now.as_nanos() as u64);
            write(&mut recorder, &mut output).doing("write the capture")
        });
    match written {
        // Whoever wanted the packets has gone.
        Err(fault) if fault.errno == Some(Errno::PIPE.raw_os_error()) => {}
        written => written?,
    }
    Ok(Summary { packets: recorder.packets(), dropped: recorder.dropped() })
}

fn record<W: Write>(
    recorder: &mut Recorder,
    ring: &mut Ring,
    output: &mut W,
    bell: &Bell,
    mut end: Option<Instant>,
) -> Result<(), Fault> {
    let mut seen = 0_u64;
    // Once it is to end: how many packets had come by then.
    let mut wanted: Option<u64> = None;
    while !recorder.is_full() {
        if let Some(mut block) = ring.next_block() {
            while let Some(packet) = block.next_packet() {
                seen += 1;
                // The only interface has been described.
                recorder.take(&packet, String::new);
            }
            drop(block);
            write(recorder, output).doing("write the capture")?;
            continue;
        }
        let over = end.is_some_and(|end| end <= Instant::now());
        if wanted.is_some_and(|wanted| seen >= wanted || over) {
            return Ok(());
        }
        let mut polled = vec![PollFd::new(&*ring, PollFlags::IN)];
        if wanted.is_none() {
            polled.push(PollFd::new(bell, PollFlags::IN));
        }
        if over || polled_says(&mut polled, end)? {
            // The block that is being filled is handed over soon; what is in it was seen in time.
            let counts = ring.statistics().doing("count the packets")?;
            recorder.count(counts);
            wanted = Some(u64::from(counts.received.saturating_sub(counts.dropped)));
            end = Some(Instant::now() + HANDED_OVER);
        }
    }
    Ok(())
}

/// How long the kernel may take to hand over what it has, busy as it may be.
const HANDED_OVER: Duration = Duration::from_secs(1);

/// Waits; returns whether the second descriptor is ready.
fn polled_says(polled: &mut [PollFd<'_>], end: Option<Instant>) -> Result<bool, Fault> {
    match poll(polled, end.map(until).as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Fault::system("wait for packets", &error.into())),
    }
    Ok(polled.get(1).is_some_and(|p| !p.revents().is_empty()))
}

/// Passes on what a capture elsewhere writes, until it ends or is to.
fn pass_all<W: Write>(
    tool: &RunningTool,
    mut packets: File,
    mut output: W,
    bell: &Bell,
    mut end: Option<Instant>,
) -> Result<Summary, Fault> {
    let mut buffer = vec![0; PIECE];
    let (mut is_stopped, mut written) = (false, Ok(()));
    loop {
        let mut polled = vec![PollFd::new(&packets, PollFlags::IN)];
        if !is_stopped {
            polled.push(PollFd::new(bell, PollFlags::IN));
        }
        let is_rung = polled_says(&mut polled, end)?;
        let came = !polled[0].revents().is_empty();
        if !is_stopped && (is_rung || end.is_some_and(|end| end <= Instant::now())) {
            tool.stop()?;
            (is_stopped, end) = (true, None);
        }
        if !came {
            continue;
        }
        match packets.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if written.is_ok() => {
                written = output.write_all(&buffer[..length]).and_then(|()| output.flush());
                if written.is_err() && !is_stopped {
                    tool.stop()?;
                    is_stopped = true;
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::system("read the capture", &error)),
        }
    }
    match written {
        // Whoever wanted the packets has gone.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Fault::system("write the capture", &error));
        }
        _ => {}
    }
    match tool.report(ENDS)? {
        Report::Capture { packets, dropped } => Ok(Summary { packets, dropped }),
        other => Err(Fault::new(FaultKind::Protocol, format!("capture; the report was {other:?}"))),
    }
}

/// Bytes of a capture elsewhere that are passed on at once.
const PIECE: usize = 64 * 1024;
/// How long a capture elsewhere may take to report once its output has ended.
const ENDS: Duration = Duration::from_secs(10);

fn write<W: Write>(recorder: &mut Recorder, output: &mut W) -> io::Result<()> {
    let bytes = recorder.output();
    if !bytes.is_empty() {
        output.write_all(bytes)?;
        output.flush()?;
        bytes.clear();
    }
    Ok(())
}
