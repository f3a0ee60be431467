//! A network namespace, made somewhere on the host.

use crate::Outcome;
use rustix::fd::AsFd as _;
use testbed_sys::process::{SingleThreaded, enter_net, unshare_net};

/// Makes one and leaves it again.
pub(super) fn round(token: SingleThreaded) -> Outcome<()> {
    let before = super::machines::own_net()?;
    unshare_net(token)?;
    enter_net(token, before.as_fd())?;
    Ok(())
}
