//! Captures: packet sockets in, pcapng out.

use super::wake::{Woken, after, wait};
use super::{Doing, ToolIo, invalid};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd};
use std::fs::File;
use std::io::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use testbed_agent::agent::Report;
use testbed_agent::capture::{Recorder, link_of};
use testbed_agent::filter::{Filter, FilterError};
use testbed_agent::{Fault, FaultKind};
use testbed_sys::packet::{PacketSocket, Ring, RingSize};

/// Captures until enough has come, the tool shall stop, or nobody reads any more.
pub(crate) fn run(
    interface: Option<&str>,
    filter: &str,
    count: u64,
    snap: u32,
    io: &mut ToolIo<'_>,
) -> Result<Report, Fault> {
    let filter: Filter = filter.parse().map_err(|error: FilterError| {
        let fault = invalid(error.to_string());
        match error.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    })?;
    let mut recorder = Recorder::new(filter, count, snap);
    let mut ring = match io.device {
        Some(device) => of_device(device, interface.unwrap_or_default(), &mut recorder)?,
        None => open(interface, &mut recorder)?,
    };
    let mut output = io.output_file()?;
    let captured = flush(&mut recorder, &mut output)
        .and_then(|()| io.say_ready())
        .and_then(|()| fill(&mut recorder, &mut ring, &mut output, io));
    match captured {
        // Whoever wanted the packets has gone.
        Err(fault) if fault.errno == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
        done => done?,
    }
    Ok(Report::Capture { packets: recorder.packets(), dropped: recorder.dropped() })
}

/// A ring that receives already.
fn open(interface: Option<&str>, recorder: &mut Recorder) -> Result<Ring, Fault> {
    let socket = PacketSocket::open().doing("open a packet socket")?;
    let (index, link) = match interface {
        None => (0, None),
        Some(name) => {
            let index = index_of(name)?;
            let hardware = socket.select(index).doing(format!("capture on {name}"))?;
            socket.promiscuous(index).doing(format!("capture on {name}"))?;
            recorder.describe(index, link_of(hardware), || name.into());
            (index, Some(link_of(hardware)))
        }
    };
    let program = recorder.program(link).map_err(|error| invalid(error.to_string()))?;
    socket.filter(&program).doing("set the filter")?;
    let ring = Ring::new(socket, RingSize::default()).doing("share memory with the packet socket")?;
    ring.start(index).doing("start the capture")?;
    Ok(ring)
}

/// A ring of a packet socket whose interface has been selected; `name` is what that is called.
fn of_device(device: BorrowedFd<'_>, name: &str, recorder: &mut Recorder) -> Result<Ring, Fault> {
    let socket = PacketSocket::from(device.try_clone_to_owned().doing("use a packet socket")?);
    let (index, hardware) = socket.selected().doing("use a packet socket")?;
    let program = recorder.program(Some(link_of(hardware))).map_err(|error| invalid(error.to_string()))?;
    socket.filter(&program).doing("set the filter")?;
    let ring = Ring::new(socket, RingSize::default()).doing("share memory with the packet socket")?;
    recorder.describe(index, link_of(hardware), || name.into());
    ring.start(index).doing("start the capture")?;
    Ok(ring)
}

fn index_of(name: &str) -> Result<u32, Fault> {
    testbed_sys::netlink::index_of(name).map_err(|error| {
        let fault = Fault::system(format!("capture on {name}"), &error);
        if error.raw_os_error() != Some(rustix::io::Errno::NODEV.raw_os_error()) {
            return fault;
        }
        let fault = Fault { kind: FaultKind::NotFound, ..fault };
        fault.hint(format!("this machine has {}", interfaces().join(", ")))
    })
}

/// The names of all interfaces, proc_pid_net(5).
fn interfaces() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

fn name_of(index: u32) -> String {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let name = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .and_then(|socket| netdevice::index_to_name(&socket, index));
    // It may have gone since.
    name.unwrap_or_else(|_| format!("interface {index}"))
}

/// How long the kernel may take to hand over what it has, busy as it may be.
const HANDED_OVER_MS: u32 = 1000;

fn fill(recorder: &mut Recorder, ring: &mut Ring, output: &mut File, io: &ToolIo<'_>) -> Result<(), Fault> {
    let mut seen = 0_u64;
    // Once it is to end: how many packets had come by then, and how long to wait for them.
    let mut last: Option<(u64, Instant)> = None;
    while !recorder.is_full() {
        let Some(mut block) = ring.next_block() else {
            if let Some((wanted, handed_over)) = last {
                if seen >= wanted || handed_over <= Instant::now() {
                    break;
                }
                wait(None, [(ring.as_fd(), PollFlags::IN)], Some(handed_over))?;
                continue;
            }
            match wait(io.stop, [(ring.as_fd(), PollFlags::IN), (io.output, PollFlags::ERR)], None)? {
                Woken::Stop => {
                    // The block that is being filled is handed over soon; what is in it was seen in time.
                    let counts = ring.statistics().doing("count the packets")?;
                    recorder.count(counts);
                    let wanted = counts.received.saturating_sub(counts.dropped);
                    last = Some((wanted.into(), after(HANDED_OVER_MS)));
                }
                Woken::Events([_, gone]) if !gone.is_empty() => break,
                Woken::Events(_) | Woken::Time => {}
            }
            continue;
        };
        while let Some(packet) = block.next_packet() {
            seen += 1;
            recorder.take(&packet, || name_of(packet.interface));
        }
        drop(block);
        flush(recorder, output)?;
    }
    recorder.count(ring.statistics().doing("count the packets")?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    recorder.finish(now.as_nanos() as u64);
    flush(recorder, output)
}

fn flush(recorder: &mut Recorder, output: &mut File) -> Result<(), Fault> {
    let written = output.write_all(recorder.output()).doing("write the capture");
    recorder.output().clear();
    written
}

#[cfg(test)]
mod tests;
