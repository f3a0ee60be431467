//! The testbeds that live: which there are, and how to reach them.
//!
//! ```text
//! STATE/beds/NAME/{lock,about.json,log}     a testbed that stays; locked while it lives
//! RUNTIME/PID/{lock,SOCKET}                 control sockets of a process; locked while it lives
//! ```

use crate::exit::Exit;
use crate::failure::Failure;
use crate::folders;
use crate::locked::{self, LockedFolder};
use crate::place::Place;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use testbed::control::{Answer, Client, Holder, Server};
use testbed::run::{Control, Served};
use testbed::{Bed, Fault, FaultKind, host};

/// What is known of a testbed that stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// The name it is up under.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Its keeper.
    pub(crate) pid: u32,
    /// Where it is reached.
    pub(crate) socket: PathBuf,
    /// When it was ready, in seconds since 1970.
    pub(crate) since: u64,
    /// The testbed that it is a copy of: a fork of it by the same keeper, or what a run has kept.
    pub(crate) copy_of: Option<String>,
}

/// A name that this process keeps a testbed under.
#[derive(Debug)]
pub(crate) struct Claim {
    folder: LockedFolder,
}

const ABOUT: &str = "about.json";

/// Removes what keepers that were killed have left. What cannot be removed keeps nobody from working.
pub(crate) fn sweep() {
    let _ = host::sweep();
    for parent in [beds(), folders::runtime()].into_iter().flatten() {
        locked::sweep(&parent);
    }
}

fn beds() -> Result<PathBuf, Failure> {
    folders::state().map(|folder| folder.join("beds"))
}

impl Claim {
    /// Takes a name.
    ///
    /// # Errors
    /// When a testbed is up under it.
    pub(crate) fn of(name: &str) -> Result<Claim, Failure> {
        let path = beds()?.join(name);
        let claimed = LockedFolder::claim(&path);
        match claimed.map_err(|e| Failure::io(format!("write {}", path.display()), e))? {
            Some(folder) => Ok(Claim { folder }),
            None => Err(up_already(name)),
        }
    }

    /// Where the keeper's own words go.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Lets others know.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn tell(&self, about: &About) -> Result<(), Failure> {
        // Renamed, so that nobody reads half of it.
        let (written, path) = (self.folder.path().join("about.new"), self.folder.path().join(ABOUT));
        let failed = |e| Failure::io(format!("write {}", path.display()), e);
        let text = serde_json::to_vec_pretty(about).map_err(|e| failed(e.into()))?;
        fs::write(&written, text).and_then(|()| fs::rename(&written, &path)).map_err(failed)
    }
}

/// A name that can be that of a folder.
///
/// # Errors
/// When it cannot.
pub(crate) fn name(text: &str) -> Result<&str, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) && !text.starts_with('.') {
        return Ok(text);
    }
    Err(Failure::call(format!("a testbed cannot be up as `{text}`"))
        .hint("`--name NAME` gives it a name of letters, digits, `-`, `_` and `.`"))
}

/// Says that a name is taken.
pub(crate) fn up_already(name: &str) -> Failure {
    let from = find(name).map_or(String::new(), |about| format!(", from {}", about.file.display()));
    Failure::call(format!("the testbed `{name}` is up already{from}"))
        .hint(format!("`testbed -t {name} down` ends it; `testbed up --name NAME` takes another name"))
}

/// The testbeds that are up, by name.
pub(crate) fn all() -> Vec<About> {
    let Ok(entries) = beds().and_then(|folder| fs::read_dir(folder).map_err(|e| Failure::io("list", e)))
    else {
        return Vec::new();
    };
    let mut all: Vec<About> =
        entries.flatten().filter_map(|entry| find(entry.file_name().to_str()?)).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The testbed that is up under this name.
pub(crate) fn find(name: &str) -> Option<About> {
    let folder = beds().ok()?.join(name);
    let about = serde_json::from_slice(&fs::read(folder.join(ABOUT)).ok()?).ok()?;
    locked::is_alive(&folder).then_some(about)
}

/// The socket of the testbed that a command is about: that of `-t`, of `TESTBED_CONTROL`, or of the nearest file.
///
/// # Errors
/// When it is not up.
pub(crate) fn socket(place: &Place) -> Result<PathBuf, Failure> {
    if let Some(name) = &place.testbed {
        return find(name).map(|about| about.socket).ok_or_else(|| {
            Failure::call(format!("no testbed `{name}` is up")).hint(match &names()[..] {
                [] => "none is; `testbed up` leaves one running".to_owned(),
                names => format!("there are: {}", names.join(", ")),
            })
        });
    }
    let variable = std::env::var_os("TESTBED_CONTROL").filter(|value| !value.is_empty());
    if let (None, Some(socket)) = (&place.directory, variable) {
        return Ok(socket.into());
    }
    about(place).map(|about| about.socket)
}

/// The testbed that is up from the nearest file.
///
/// # Errors
/// When there is no file, or no testbed is up from it.
pub(crate) fn about(place: &Place) -> Result<About, Failure> {
    if let Some(name) = &place.testbed
        && let Some(about) = find(name)
    {
        return Ok(about);
    }
    let file = place.file()?;
    let whole = file.canonicalize().map_err(|e| Failure::io(format!("find {}", file.display()), e))?;
    all().into_iter().find(|about| about.file == whole && about.copy_of.is_none()).ok_or_else(|| {
        let failure = Failure::call(format!("the testbed of {} is not up", file.display()));
        failure.hint(match &names()[..] {
            [] => "`testbed up` leaves it running".to_owned(),
            names => format!("`testbed up` leaves it running; -t NAME names another: {}", names.join(", ")),
        })
    })
}

fn names() -> Vec<String> {
    all().into_iter().map(|about| about.name).collect()
}

/// Connects to the keeper of the testbed that a command is about.
///
/// # Errors
/// When it is not up, or cannot be reached.
pub(crate) fn client(place: &Place) -> Result<Client, Failure> {
    Ok(Client::connect(&socket(place)?)?)
}

/// Asks a keeper the same of machines, one after another.
///
/// # Errors
/// The first that could not be done; the rest was not asked.
pub(crate) fn ask_each(
    place: &Place,
    machines: Vec<String>,
    ask: impl Fn(&Client, String) -> Result<Answer, Fault>,
) -> Result<Exit, Failure> {
    let client = client(place)?;
    for machine in machines {
        ask(&client, machine)?;
    }
    Ok(Exit::Success)
}

/// The control sockets of this process.
#[derive(Debug)]
pub(crate) struct Sockets {
    parent: PathBuf,
    /// Made with the first socket: who needs none needs no folder that can be written.
    folder: Mutex<Option<LockedFolder>>,
}

impl Sockets {
    /// None yet.
    ///
    /// # Errors
    /// When there is no folder for them.
    pub(crate) fn new() -> Result<Sockets, Failure> {
        Ok(Sockets { parent: folders::runtime()?, folder: Mutex::default() })
    }

    /// The folder of this process.
    fn folder(&self) -> Result<PathBuf, Fault> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = &*folder {
            return Ok(folder.path().to_owned());
        }
        let path = self.parent.join(std::process::id().to_string());
        let failed = |e: &std::io::Error| Fault::system("write", e).at(path.to_string_lossy());
        let claimed = LockedFolder::claim(&path).map_err(|e| failed(&e))?;
        let claimed = claimed.ok_or_else(|| failed(&std::io::ErrorKind::AlreadyExists.into()))?;
        *folder = Some(claimed);
        Ok(path)
    }

    /// Serves a testbed at a socket of this name.
    ///
    /// # Errors
    /// When the folder cannot be made, and those of [`Server::start`].
    pub(crate) fn open(
        &self,
        name: &str,
        bed: &Bed,
        holder: Option<Arc<dyn Holder>>,
    ) -> Result<Server, Fault> {
        let path = self.folder()?.join(name);
        // As much as sockaddr_un holds, with the NUL behind it (unix(7)).
        if path.as_os_str().len() > 107 {
            let fault =
                Fault::new(FaultKind::Invalid, "use a path for sockets that is longer than 107 bytes:");
            let fault = fault.at(path.to_string_lossy());
            return Err(fault.hint("set TESTBED_RUNTIME to a folder with a short path"));
        }
        Server::start(&path, bed, holder)
    }
}

impl Control for Sockets {
    fn serve(&self, bed: &Bed, copy: u32) -> Result<Served, Fault> {
        let server = self.open(&copy.to_string(), bed, None)?;
        Ok(Served { socket: server.path().to_owned(), guard: Box::new(server) })
    }
}
