//! What machines share, attached in a mount namespace of the launcher's own.
//!
//! Each machine gets copies of mounts, and before Linux 6.15 a mount can be copied only where it is attached. In the
//! host's namespace nothing may be attached: it would outlive a launcher that is killed. Where machines are cloned it would
//! be copied for each of them.

use super::rooms::Rooms;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Mode, mkdirat, unlinkat};
use rustix::mount::{UnmountFlags, unmount};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use testbed_agent::{Doing as _, Fault};
use testbed_sys::mount::{Attached, Detached};
use testbed_sys::process::SingleThreaded;

pub(super) struct Shelf {
    rooms: Rc<Rooms>,
    next: Cell<u32>,
    free: Rc<RefCell<Vec<u32>>>,
}

/// The launcher is at the shelf.
pub(super) struct AtShelf<'a> {
    shelf: &'a Shelf,
}

/// A mount on the shelf, until it is dropped and the launcher is at the shelf again.
pub(super) struct Shared {
    mount: Attached,
    _place: Place,
}

/// A folder that something is attached on.
struct Place {
    number: u32,
    free: Rc<RefCell<Vec<u32>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free.borrow_mut().push(self.number);
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl Shelf {
    pub(super) fn new(rooms: &Rc<Rooms>) -> Shelf {
        Shelf { rooms: Rc::clone(rooms), next: Cell::new(0), free: Rc::default() }
    }

    /// Does something at the shelf, where nothing of the host can be seen.
    pub(super) fn visit<T>(
        &self,
        token: SingleThreaded,
        work: impl FnOnce(&AtShelf<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.rooms.on_shelf(token, || {
            let done = work(&AtShelf { shelf: self });
            self.clear();
            done
        })
    }

    /// Puts one mount there.
    pub(super) fn keep(&self, token: SingleThreaded, mount: Detached) -> Result<Shared, Fault> {
        self.visit(token, |shelf| shelf.keep(mount))
    }

    /// Takes down what nobody has any more.
    pub(super) fn tidy(&self, token: SingleThreaded) -> Result<(), Fault> {
        if self.free.borrow().is_empty() { Ok(()) } else { self.visit(token, |_| Ok(())) }
    }

    fn clear(&self) {
        for number in self.free.borrow_mut().drain(..) {
            let name = number.to_string();
            // What cannot be taken down goes with the launcher.
            let _ = unmount(name.as_str(), UnmountFlags::DETACH);
            let _ = unlinkat(CWD, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

impl AtShelf<'_> {
    pub(super) fn keep(&self, mount: Detached) -> Result<Shared, Fault> {
        let number = self.shelf.next.get();
        self.shelf.next.set(number.wrapping_add(1));
        let name = number.to_string();
        mkdirat(CWD, name.as_str(), Mode::RWXU).doing("make a place for a mount")?;
        let place = Place { number, free: Rc::clone(&self.shelf.free) };
        let mount = mount.attach(CWD, name.as_str()).doing("attach a mount")?;
        Ok(Shared { mount, _place: place })
    }

    /// A copy of what stands at a path in a mount of this shelf.
    pub(super) fn copy(&self, shared: &Shared, path: &str) -> Result<Detached, Fault> {
        shared.mount.copy(path).doing("copy a mount")
    }

    /// Layers of an overlay that is mounted here.
    pub(super) fn layer<'a>(&self, shared: &'a Shared) -> &'a Attached {
        &shared.mount
    }
}
