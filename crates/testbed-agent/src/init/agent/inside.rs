//! What an agent does whose machine holds the machines of a testbed.

use super::{Agent, Part};
use crate::init::capsule::{Capsule, Inside};
use crate::init::guest;
use crate::init::line::Line;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use std::io;
use testbed_agent::agent::Reply;
use testbed_agent::frame::{Frame, FrameError};
use testbed_agent::{Fault, FaultKind};

impl Agent<'_> {
    /// Changes over to a root for a launcher, and starts that.
    pub(super) fn enclose(&mut self, images: u32) -> Result<Reply, Fault> {
        if matches!(self.line, Line::Socket(_)) || self.is_in_root {
            return Err(Fault::new(FaultKind::State, "become a capsule"));
        }
        guest::enter_capsule(images)?;
        self.is_in_root = true;
        self.capsule = Some(Capsule::start(&self.poll, token)?);
        Ok(Reply::Done)
    }

    /// Takes a frame of the keeper's, if it is for somebody inside.
    pub(super) fn deliver_inside(&mut self, frame: &Frame) -> Result<bool, FrameError> {
        match &mut self.capsule {
            Some(capsule) => capsule.deliver(frame, &mut self.out, &self.poll, token),
            None => Ok(false),
        }
    }

    pub(super) fn heard_inside(&mut self, inside: Inside, flags: epoll::EventFlags) -> io::Result<()> {
        self.capsule.as_mut().map_or(Ok(()), |capsule| capsule.event(inside, flags, &mut self.out))
    }

    pub(super) fn settle_inside(&mut self) -> io::Result<()> {
        self.capsule.as_mut().map_or(Ok(()), |capsule| capsule.settle(&self.poll, &mut self.out, token))
    }

    /// What an order has opened, for a tool.
    pub(super) fn device(&mut self, order: u32) -> Result<OwnedFd, Fault> {
        let missing =
            || Fault::new(FaultKind::State, "use what an order has opened, where nobody takes orders");
        self.capsule.as_mut().ok_or_else(missing)?.take_device(order)
    }
}

fn token(inside: Inside) -> epoll::EventData {
    Part::Inside(inside).token()
}
