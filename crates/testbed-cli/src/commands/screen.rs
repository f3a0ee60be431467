use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::keepers;
use crate::place::Place;
use crate::terminal;
use rustix::net::{Shutdown, shutdown};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testbed::Fault;
use testbed::control::agent::Note;
use testbed::control::{Ask, Client, Happening, Talk};

/// Show the live screen of a machine to VNC viewers, until Ctrl-C.
///
/// Viewers open a Unix socket, whose path is written to standard output: `vncviewer PATH`. Several may look, and type.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The machine.
    #[arg(value_name = "MACHINE")]
    machine: String,
    /// Listen at this path.
    ///
    /// [default: MACHINE.vnc in the working folder]
    #[arg(long, value_name = "PATH")]
    at: Option<PathBuf>,
}

/// How long a keeper may take to connect to the screen.
const CONNECT: Duration = Duration::from_secs(30);

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        let interrupts = Interrupts::catch().map_err(|e| Failure::io("wait for signals", e))?;
        let client = keepers::client(place)?;
        // Viewers could not be told what is wrong.
        drop(open(&client, &self.machine)?);
        let path = self.at.unwrap_or_else(|| format!("{}.vnc", self.machine).into());
        let socket = Socket::listen(path)?;
        terminal::data(&format!("{}\n", socket.path.display()))
            .map_err(|e| Failure::io(terminal::TO_OUTPUT, e))?;
        terminal::talk(&format!(
            "the screen of {} is shown there until Ctrl-C: `vncviewer {}`\n",
            self.machine,
            socket.path.display()
        ));
        let listener = socket.listener.try_clone().map_err(|e| Failure::io("listen", e))?;
        let machine = self.machine;
        std::thread::Builder::new()
            .name("testbed-screen".into())
            .spawn(move || serve(&listener, &client, &machine))
            .map_err(|e| Failure::io("start a thread", e))?;
        interrupts.wait();
        Ok(Exit::Success)
    }
}

/// A socket that only its owner may open, gone with the value.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    fn listen(path: PathBuf) -> Result<Socket, Failure> {
        let failed = |e| Failure::io(format!("listen at {}", path.display()), e);
        let listener = match UnixListener::bind(&path) {
            // Of a command that was killed.
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_left(&path) => {
                fs::remove_file(&path).and_then(|()| UnixListener::bind(&path))
            }
            bound => bound,
        };
        let listener = listener.map_err(failed)?;
        let socket = Socket { listener, path: path.clone() };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(socket)
    }
}

/// Whether a path is that of a socket that nobody listens at.
fn is_left(path: &Path) -> bool {
    let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    fs::metadata(path).is_ok_and(|about| about.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(refused)
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What has been removed is gone.
        let _ = fs::remove_file(&self.path);
    }
}

/// A connection to the screen, once there is one.
fn open(client: &Client, machine: &str) -> Result<Talk, Fault> {
    let mut talk = client.begin(&Ask::Screen { machine: machine.to_owned() })?;
    let end = Instant::now() + CONNECT;
    while !matches!(talk.next(Some(end))?, Happening::Note(Note::Ready)) {}
    Ok(talk)
}

fn serve(listener: &UnixListener, client: &Client, machine: &str) {
    for viewer in listener.incoming().map_while(Result::ok) {
        let (client, machine) = (client.clone(), machine.to_owned());
        let show = move || {
            if let Err(fault) = show(&viewer, &client, &machine) {
                Failure::from(fault).tell();
            }
            // Whoever looked has gone, or sees that there is no more.
            let _ = shutdown(&viewer, Shutdown::Both);
        };
        if let Err(error) = std::thread::Builder::new().name("testbed-viewer".into()).spawn(show) {
            Failure::io("start a thread", error).tell();
        }
    }
}

fn show(viewer: &UnixStream, client: &Client, machine: &str) -> Result<(), Fault> {
    let mut talk = open(client, machine)?;
    let (credit, typed) = (talk.credit(), viewer.try_clone());
    let mut typed = typed.map_err(|e| Fault::system("copy a descriptor", &e))?;
    let reading = std::thread::Builder::new().name("testbed-viewer".into()).spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = typed.read(&mut buffer) {
            if !credit.send(&buffer[..length]) {
                return;
            }
        }
        // With its viewer a view ends (signal(7): SIGTERM).
        let _ = credit.steer(&testbed::control::agent::Steer::Signal(15));
    });
    reading.map_err(|e| Fault::system("start a thread", &e))?;
    loop {
        match talk.next(None)? {
            Happening::Data(_, bytes) => {
                if (&*viewer).write_all(&bytes).is_err() {
                    return Ok(());
                }
            }
            Happening::Answer(_) | Happening::Reply(_) => return Ok(()),
            Happening::Note(_) => {}
        }
    }
}
