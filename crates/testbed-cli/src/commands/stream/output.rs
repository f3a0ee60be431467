//! Where data goes.

use crate::failure::Failure;
use crate::terminal;
use rustix::fd::AsFd as _;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::rc::Rc;

/// What is written at once, where nobody waits for it.
const BUFFER: usize = 256 * 1024;

/// The argument that says where to.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Output {
    /// Write to this file instead of standard output.
    #[arg(short, long, alias = "output-to", value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Output {
    /// Opens it.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn open(&self) -> Result<Out, Failure> {
        match &self.output {
            Some(path) => Out::to_file(path.clone()),
            None => Out::stdout(),
        }
    }

    /// Whether that is a file.
    pub(super) fn is_file(&self) -> bool {
        self.output.is_some()
    }
}

/// A file or standard output, which several writers may share. It is written to in large pieces; [`Out::flush`] is for
/// when somebody may wait.
#[derive(Clone, Debug)]
pub(super) struct Out {
    file: Rc<RefCell<BufWriter<File>>>,
    doing: Rc<str>,
}

impl Out {
    /// Standard output.
    ///
    /// # Errors
    /// When this process has none.
    pub(super) fn stdout() -> Result<Out, Failure> {
        let fd = io::stdout().as_fd().try_clone_to_owned();
        Ok(Out::new(fd.map_err(|e| Failure::io(terminal::TO_OUTPUT, e))?.into(), terminal::TO_OUTPUT))
    }

    /// Standard error.
    ///
    /// # Errors
    /// When this process has none.
    pub(super) fn stderr() -> Result<Out, Failure> {
        let doing = "write to standard error";
        let fd = io::stderr().as_fd().try_clone_to_owned();
        Ok(Out::new(fd.map_err(|e| Failure::io(doing, e))?.into(), doing))
    }

    /// A new file, or an old one made empty.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn to_file(path: PathBuf) -> Result<Out, Failure> {
        let doing = format!("write {}", path.display());
        let file = File::create(path).map_err(|e| Failure::call(format!("cannot {doing}: {e}")))?;
        Ok(Out::new(file, &doing))
    }

    fn new(file: File, doing: &str) -> Out {
        Out { file: Rc::new(RefCell::new(BufWriter::with_capacity(BUFFER, file))), doing: doing.into() }
    }

    /// What fails is something else, which is being done in its place.
    pub(super) fn doing(self, doing: &str) -> Out {
        Out { doing: doing.into(), ..self }
    }

    /// That this could not be written to.
    pub(super) fn failed(&self, error: io::Error) -> Failure {
        Failure::io(&*self.doing, error)
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn flush_out(&mut self) -> Result<(), Failure> {
        self.flush().map_err(|e| self.failed(e))
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.borrow_mut().write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.borrow_mut().write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.borrow_mut().flush()
    }
}
