use super::records::{Reporting, verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use testbed_subunit::EventRef;
use testbed_subunit::folder::{Folder, Piece};
use testbed_subunit::stream::{Sink, Summarize};

/// Write the files that tests attached into a folder: one for each test, with what became of it in `test.json`.
///
/// Names are made of ids so that none leads out of the folder, and no two tests share one.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reporting: Reporting,
    /// The folder, which is made.
    #[arg(short = 'd', long = "to", value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let root = &self.folder;
        std::fs::create_dir_all(root)
            .map_err(|e| Failure::call(format!("cannot make {}: {e}", root.display())))?;
        let out = self.reporting.report()?.doing("write files");
        let files = Files { root, folder: Folder::new(), last: None };
        let mut stream = Summarize::new(files);
        self.reporting.pass(&out, &mut stream)?;
        Ok(verdict(stream.summary()))
    }
}

/// What is to be written is the library's to say; here it is done.
struct Files<'a> {
    root: &'a Path,
    folder: Folder,
    /// The file that was written to last, which the next piece is mostly of.
    last: Option<(String, File)>,
}

impl Files<'_> {
    fn write(root: &Path, last: &mut Option<(String, File)>, piece: Piece<'_>) -> io::Result<()> {
        if let (Some((path, file)), true) = (&mut *last, piece.append)
            && path == piece.path
        {
            return file.write_all(piece.bytes);
        }
        let path = root.join(piece.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let how = if piece.append { OFlags::APPEND } else { OFlags::TRUNC };
        // What stands there under that name and leads elsewhere is not followed.
        let how = how | OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let file = rustix::fs::open(&path, how, Mode::from_raw_mode(0o666)).map_err(|e| named(e.into()))?;
        let (_, file) = last.insert((piece.path.to_owned(), File::from(file)));
        file.write_all(piece.bytes).map_err(named)
    }
}

impl Sink for Files<'_> {
    type Error = io::Error;

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        let mut result = Ok(());
        self.folder.event(event, |piece| {
            if result.is_ok() {
                result = Self::write(self.root, &mut self.last, piece);
            }
        });
        result
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        std::mem::take(&mut self.folder).finish(|piece| {
            if result.is_ok() {
                result = Self::write(self.root, &mut self.last, piece);
            }
        });
        result
    }
}
