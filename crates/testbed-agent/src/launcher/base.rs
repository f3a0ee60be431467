//! What a launcher makes once and shares between its machines: id maps, the host's root with its secrets masked, and
//! the cgroups that machines' folders are made in.

use super::rooms::Rooms;
use super::shelf::{AtShelf, Shared, Shelf};
use super::skeleton::{Skeleton, Survey};
use crate::init::Part;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, mkdirat, mknodat, openat,
};
use rustix::mount::MountAttrFlags;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use testbed_agent::Doing as _;
use testbed_agent::launch::{Controller, IDS, Ids, Mask, Masked, Setup};
use testbed_agent::layers::opaque;
use testbed_agent::{Fault, FaultKind};
use testbed_sys::delegation;
use testbed_sys::mount::{self, Alteration, Detached, Marks, NewFs, Overlay};
use testbed_sys::process::{self, Cloned, Namespaces, SingleThreaded, clone};
use testbed_sys::userns::{self, IdMap};

pub(super) struct Base {
    ids: Ids,
    /// A namespace with the machines' map, for idmapped mounts.
    canonical: Option<OwnedFd>,
    /// The host's root, masked, or why there is none.
    host: Result<Host, Fault>,
    /// Namespaces that show one owner of the host as root, by that owner.
    owners: RefCell<HashMap<(u32, u32), OwnedFd>>,
    /// The folder with the command that drives a testbed from inside, once a machine has wanted it.
    client: OnceCell<Shared>,
    pub(super) unified: Option<Rc<OwnedFd>>,
    pub(super) controllers: Vec<(Controller, Rc<OwnedFd>)>,
    /// Of this launcher alone: a keeper may have several.
    cgroup_paths: Vec<PathBuf>,
    tun: bool,
    rooms: Rc<Rooms>,
    pub(super) shelf: Shelf,
    /// Of overlays whose upper layer is in memory.
    pub(super) marks: Marks,
}

/// The host's own root, as its machines get it.
enum Host {
    /// One read-only overlay.
    Whole(Shared),
    /// An ordinary user's: the kernel refuses `/` as a layer in a mount namespace that is not its own.
    Folders(Skeleton),
}

/// Where processes go that are in a folder which is to pass controllers on.
const KEEPERS: &str = "testbed";

/// An ordinary user's launcher that has left the host's user namespace.
pub(super) struct Separate {
    setup: Setup,
    mask: Vec<Masked>,
    /// What its machines see of the host, with the owners that can be seen from the host only.
    survey: Survey,
    /// This user and group, as the host counts.
    own: (u32, u32),
}

impl Separate {
    /// Looks at the host, and leaves its user namespace. A single id is mapped as well; other ids are not.
    pub(super) fn from_host(
        token: SingleThreaded,
        setup: Setup,
        mask: Vec<Masked>,
    ) -> Result<Separate, Fault> {
        let survey = Survey::make(&mask)?;
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        process::unshare_user(token).doing("make a user namespace").map_err(refused_namespace)?;
        let mut separate = Separate { setup, mask, survey, own: (uid, gid) };
        if separate.setup.ids == Ids::Single {
            separate.map(Ids::Single)?;
        }
        Ok(separate)
    }

    pub(super) fn ids(&self) -> Ids {
        self.setup.ids
    }

    /// What ids it has now: those that were mapped, or the one that every user can map.
    pub(super) fn map(&mut self, ids: Ids) -> Result<(), Fault> {
        self.setup.ids = ids;
        if ids != Ids::Single {
            return Ok(());
        }
        userns::write_single_map(std::process::id(), self.own.0, self.own.1)
            .doing("map user ids")
            .map_err(refused_namespace)
    }
}

impl Separate {
    /// Makes what machines share.
    pub(super) fn prepare(self, token: SingleThreaded) -> Result<Base, Fault> {
        become_root(token)?;
        let base = Base::prepare(token, &self.setup)?;
        let skeleton = Skeleton::make(token, &base, &self.mask, self.survey)?;
        Ok(Base { host: Ok(Host::Folders(skeleton)), ..base })
    }
}

impl Base {
    /// Makes what machines share, but for the host's root.
    pub(super) fn prepare(token: SingleThreaded, setup: &Setup) -> Result<Base, Fault> {
        let canonical = match setup.ids {
            Ids::Range(first) => {
                let map = IdMap { inside: 0, outside: first, count: IDS };
                Some(userns::with_maps(token, map, map).doing("map user ids")?)
            }
            Ids::Delegated(_) | Ids::Single => None,
        };
        let above = setup.cgroup.as_deref().and_then(|path| Path::new(path).parent());
        let pass_on = |folder: &Path| {
            delegation::pass_on(folder, &setup.cgroup_controllers)
                .doing("pass cgroup controllers on")
                .map_err(|f| f.at(folder.to_string_lossy()))
        };
        if let Some(above) = above.filter(|_| !setup.cgroup_controllers.is_empty()) {
            if setup.cgroup_occupied {
                delegation::clear(above, KEEPERS)
                    .doing("move processes into a cgroup of their own")
                    .map_err(|f| f.at(above.to_string_lossy()))?;
            }
            pass_on(above)?;
        }
        let mut cgroup_paths = Vec::new();
        let mut open_group = |path: &String| -> Result<Rc<OwnedFd>, Fault> {
            let path = PathBuf::from(path);
            make_group(&path).doing("make cgroup").map_err(|f| f.at(path.to_string_lossy()))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let group = openat(CWD, &path, flags, Mode::empty()).doing("open cgroup");
            cgroup_paths.push(path);
            group.map(Rc::new)
        };
        let unified = setup.cgroup.as_ref().map(&mut open_group).transpose()?;
        setup.cgroup.as_deref().map_or(Ok(()), |path| pass_on(Path::new(path)))?;
        let mut controllers = Vec::new();
        for (controller, path) in &setup.cgroup_v1 {
            controllers.push((*controller, open_group(path)?));
        }
        let (rooms, marks) = Rooms::make(token, setup.ids.is_ordinary())?;
        let rooms = Rc::new(rooms);
        if rooms.has_nursery() {
            // From here on the launcher lives behind the filter of its machines; they inherit it, which costs them
            // nothing. An ordinary user's machines set it themselves: only there they have the privilege.
            testbed_sys::seccomp::confine().doing("filter system calls")?;
        }
        Ok(Base {
            shelf: Shelf::new(&rooms),
            marks,
            rooms,
            ids: setup.ids,
            canonical,
            host: Err(Fault::new(FaultKind::State, "the launcher has no root of the host yet")),
            owners: RefCell::default(),
            client: OnceCell::new(),
            unified,
            controllers,
            cgroup_paths,
            tun: setup.tun,
        })
    }

    /// Prepares the host's root, as root's launcher has it, with some of it hidden.
    pub(super) fn show_host(&mut self, token: SingleThreaded, mask: &[Masked]) -> Result<(), Fault> {
        self.host = self.masked_host(token, mask).map(Host::Whole);
        self.host.as_ref().map(drop).map_err(Fault::clone)
    }

    /// Makes process 1 of a machine.
    pub(super) fn clone(
        &self,
        token: SingleThreaded,
        cgroup: Option<BorrowedFd<'_>>,
        root: Option<Detached>,
    ) -> Result<Cloned, Fault> {
        let clone = || clone(token, Namespaces::MACHINE, cgroup).doing("clone process 1");
        self.rooms.clone_in_nursery(token, root, clone)
    }

    /// Machines inherit the filter of system calls.
    pub(super) fn is_confined(&self) -> bool {
        self.rooms.has_nursery()
    }

    pub(super) fn ids(&self) -> Ids {
        self.ids
    }

    pub(super) fn has_tun(&self) -> bool {
        self.tun
    }

    /// The id of root inside, as the launcher counts.
    pub(super) fn root_id(&self) -> u32 {
        match self.ids {
            Ids::Range(first) => first,
            Ids::Delegated(_) | Ids::Single => 0,
        }
    }

    /// A mount of the masked host root, and the folders of the host that belong on it.
    pub(super) fn host(&self, shelf: &AtShelf<'_>) -> Result<(Detached, Vec<Part>), Fault> {
        let (root, parts) = match self.host.as_ref().map_err(Fault::clone)? {
            Host::Whole(root) => (root, Vec::new()),
            Host::Folders(skeleton) => (&skeleton.layer, skeleton.parts(shelf)?),
        };
        Ok((shelf.copy(root, "")?, parts))
    }

    /// A mount of a folder whose owners are as inside.
    pub(super) fn canonical(&self, path: &str) -> Result<Detached, Fault> {
        let fault = |f: Fault| f.at(path);
        let layer = mount::copy_of_path(path, false).doing("open layer").map_err(fault)?;
        if let Some(ids) = &self.canonical {
            let alteration = Alteration { ids: Some(ids.as_fd()), ..Alteration::default() };
            mount::alter(&layer, alteration, false).doing("map owners of").map_err(fault)?;
        }
        Ok(layer)
    }

    /// A mount of a folder or file of the host on which root inside acts as the given owner.
    pub(super) fn owned_by(
        &self,
        token: SingleThreaded,
        path: &str,
        owner: (u32, u32),
        writable: bool,
    ) -> Result<Detached, Fault> {
        let fault = |f: Fault| f.at(path);
        let tree = match (mount::copy_of_path(path, false), self.ids) {
            // An ordinary user cannot take apart what is mounted below it.
            (Err(error), ids) if ids.is_ordinary() && error.kind() == std::io::ErrorKind::InvalidInput => {
                mount::copy_of_path(path, true)
            }
            (tree, _) => tree,
        };
        let tree = tree.doing("open mount source").map_err(fault)?;
        let mut owners = self.owners.borrow_mut();
        let ids = match (self.ids, owners.get(&owner)) {
            (Ids::Delegated(_) | Ids::Single, _) => None,
            (_, Some(ids)) => Some(ids),
            (Ids::Range(first), None) => {
                let map = |id| IdMap { inside: id, outside: first, count: 1 };
                let ids = userns::with_maps(token, map(owner.0), map(owner.1)).doing("map the owner of")?;
                Some(&*owners.entry(owner).or_insert(ids))
            }
        };
        let alteration =
            Alteration { ids: ids.map(AsFd::as_fd), read_only: !writable, ..Alteration::default() };
        mount::alter(&tree, alteration, true).doing("map owners of").map_err(fault)?;
        Ok(tree)
    }

    /// The folder that holds this program as the command `testbed`. All machines that have it share its pages, and none can
    /// change it.
    pub(super) fn client(&self, token: SingleThreaded) -> Result<&Shared, Fault> {
        match self.client.get() {
            Some(folder) => Ok(folder),
            None => {
                let made = self.shelf.keep(token, client_folder(self.root_id())?)?;
                Ok(self.client.get_or_init(|| made))
            }
        }
    }

    /// A small layer that holds files, all of them root's.
    pub(super) fn files_layer(
        &self,
        token: SingleThreaded,
        files: &[(String, String)],
    ) -> Result<Shared, Fault> {
        let layer = tmpfs("4m")?;
        let owner = self.root_id();
        for (path, content) in files {
            let path = path.trim_start_matches('/');
            make_parents(layer.as_fd(), path, owner)?;
            write_file(layer.as_fd(), path, content, 0o644, owner, owner)?;
        }
        self.shelf.keep(token, layer)
    }

    /// Its mount namespaces, which the kernel takes time to take down.
    pub(super) fn into_namespaces(self) -> impl Iterator<Item = OwnedFd> {
        let Base { rooms, shelf, host, client, .. } = self;
        drop((shelf, host, client));
        Rc::into_inner(rooms).into_iter().flat_map(Rooms::into_namespaces)
    }

    /// The host's root as one overlay, with some of it hidden.
    fn masked_host(&self, token: SingleThreaded, entries: &[Masked]) -> Result<Shared, Fault> {
        let missing = || Fault::new(FaultKind::State, "the launcher has no map of ids");
        let ids = self.canonical.as_ref().ok_or_else(missing)?;
        // Not by an idmapped mount, which a tmpfs can have from Linux 6.3 on.
        let first = self.root_id();
        let mask = tmpfs("16m")?;
        own(mask.as_fd(), "", first, first)?;
        fill_mask(mask.as_fd(), entries, |id| if id < IDS { first + id } else { id })?;
        let root = mount::copy_of_path(c"/", false).doing("open /")?;
        let alteration = Alteration { ids: Some(ids.as_fd()), ..Alteration::default() };
        mount::alter(&root, alteration, false).doing("map owners of").map_err(|f| f.at("/"))?;
        self.shelf.visit(token, |shelf| {
            let (mask, root) = (shelf.keep(mask)?, shelf.keep(root)?);
            let mut overlay = Overlay::new(Marks::Trusted);
            overlay.lower(shelf.layer(&mask));
            overlay.lower(shelf.layer(&root));
            shelf.keep(overlay.mount().doing("overlay the host's root")?)
        })
    }

    /// Removes the folders that machines' cgroups were made in.
    pub(super) fn remove_cgroups(&self) {
        for path in &self.cgroup_paths {
            // One that is not empty is swept by the next command.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Makes an ordinary user, who is root of a user namespace, root of others in which all that follows is allowed.
fn become_root(token: SingleThreaded) -> Result<(), Fault> {
    process::unshare_mounts(token).doing("make a mount namespace")?;
    process::unshare_net(token).doing("make a network namespace")?;
    mount::make_all_private().doing("make mounts private")
}

fn refused_namespace(fault: Fault) -> Fault {
    fault.hint(
        "this host does not let ordinary users make user namespaces; `testbed doctor` says what to change",
    )
}

/// Makes a launcher's folder in its keeper's, which another launcher of the keeper may just remove as its last.
pub(super) fn make_group(path: &Path) -> std::io::Result<()> {
    const ATTEMPTS: u32 = 10;
    let mut folder = std::fs::DirBuilder::new();
    folder.mode(0o755).recursive(true);
    for _ in 1..ATTEMPTS {
        match folder.create(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    folder.create(path)
}

pub(super) fn tmpfs(size: &str) -> Result<Detached, Fault> {
    NewFs::open("tmpfs")
        .and_then(|fs| fs.set("mode", "755"))
        .and_then(|fs| fs.set("size", size))
        .and_then(|fs| fs.mount(MountAttrFlags::empty()))
        .doing("make a tmpfs")
}

/// A read-only file system with this program in it.
fn client_folder(owner: u32) -> Result<Detached, Fault> {
    let folder = tmpfs("64m")?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&folder, "testbed", flags, Mode::from_raw_mode(0o600)).doing("write the command")?;
    let mut program = std::fs::File::open("/proc/self/exe").doing("read the own program")?;
    std::io::copy(&mut program, &mut std::fs::File::from(file)).doing("write the command")?;
    let read_only = Mode::from_raw_mode(0o555);
    chmodat(&folder, "testbed", read_only, AtFlags::empty()).doing("write the command")?;
    own(folder.as_fd(), "testbed", owner, owner)?;
    own(folder.as_fd(), "", owner, owner)?;
    mount::seal(folder.as_fd()).doing("make the command's folder read-only")?;
    Ok(folder)
}

/// A layer that hides entries of the layer below it: opaque folders and whiteouts
/// (Documentation/filesystems/overlayfs.rst). Being a layer and not a mount, nobody inside can take it away.
///
/// `id` gives what stands for an owner of the host.
pub(super) fn fill_mask(
    at: BorrowedFd<'_>,
    entries: &[Masked],
    id: impl Fn(u32) -> u32,
) -> Result<(), Fault> {
    for entry in entries {
        let (uid, gid) = (id(entry.uid), id(entry.gid));
        let path = entry.path.as_str();
        let fault = |f: Fault| f.at(format!("/{path}"));
        match &entry.with {
            Mask::Absent => {
                mknodat(at, path, FileType::CharacterDevice, Mode::empty(), 0)
                    .doing("mask")
                    .map_err(fault)?;
            }
            Mask::Empty | Mask::Through => {
                let mode = Mode::from_raw_mode(entry.mode);
                mkdirat(at, path, mode).doing("mask").map_err(fault)?;
                if (uid, gid) != (0, 0) {
                    own(at, path, uid, gid)?;
                }
                if mode.intersects(Mode::SUID | Mode::SGID) {
                    chmodat(at, path, mode, AtFlags::empty()).doing("mask").map_err(fault)?;
                }
                if entry.with == Mask::Empty {
                    let folder =
                        openat(at, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                            .doing("mask")
                            .map_err(fault)?;
                    opaque::mark(&folder).doing("mask").map_err(fault)?;
                }
            }
            Mask::File(content) => write_file(at, path, content, entry.mode, uid, gid)?,
        }
    }
    Ok(())
}

fn make_parents(at: BorrowedFd<'_>, path: &str, owner: u32) -> Result<(), Fault> {
    for (end, _) in path.match_indices('/') {
        let parent = &path[..end];
        match mkdirat(at, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) => own(at, parent, owner, owner)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(Fault::system("make folder", &error.into()).at(parent)),
        }
    }
    Ok(())
}

fn write_file(
    at: BorrowedFd<'_>,
    path: &str,
    content: &str,
    mode: u32,
    uid: u32,
    gid: u32,
) -> Result<(), Fault> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fault = |f: Fault| f.at(format!("/{path}"));
    let file = openat(at, path, flags, Mode::from_raw_mode(0o600)).doing("write").map_err(fault)?;
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest).doing("write").map_err(fault)?;
        rest = &rest[n..];
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).doing("write").map_err(fault)?;
    own(at, path, uid, gid)
}

/// Gives what stands at a path, or the folder itself if the path is empty, to an owner.
pub(super) fn own(at: BorrowedFd<'_>, path: &str, uid: u32, gid: u32) -> Result<(), Fault> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    chownat(at, path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)
        .doing("change owner")
        .map_err(|f| f.at(path))
}
