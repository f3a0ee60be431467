//! Taking images in: once, under a name.

use super::compression::decompressed;
use super::imported::Imported;
use super::key::hex;
use super::layering::Layering;
use super::oci::Layout;
use super::resolve::{Progress, Resolved};
use super::store::Store;
use super::workplace::Workplace;
use crate::spec::{TAR_SUFFIXES, is_image_name};
use sha2::{Digest as _, Sha256};
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Instant, SystemTime};
use testbed_agent::layers::{MOST_BYTES, Whiteouts};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The longest name, in characters.
const LONGEST_NAME: usize = 128;
/// What a tar archive ends with: blocks of zeros (pax(1), "ustar Interchange Format").
const BLOCK: u64 = 512;

/// Where an image is imported from.
///
/// What it is shows in what it holds: an OCI layout, what `docker save` wrote, or else a root file system. Archives may
/// be compressed with gzip, xz or zstd.
pub enum Source<'a> {
    /// A tar archive, or a folder.
    Path(&'a Path),
    /// A tar archive as it comes.
    Stream {
        /// Read to its end.
        reader: &'a mut dyn Read,
        /// What to call it.
        shown: &'a str,
    },
}

impl Store {
    /// Takes an image in under a name, in the place of one that has it. Whoever uses that keeps it. The layers stay
    /// until [`Store::remove_imported`].
    ///
    /// # Errors
    /// [`FaultKind::Invalid`] for a name that cannot be one; [`FaultKind::NotFound`] for a source that is not there;
    /// [`FaultKind::Image`] for one that is damaged, empty, or for another kind of computer. Nothing is left of it
    /// then, and the name is what it was.
    pub fn import(
        &self,
        name: &str,
        source: Source<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Imported, Fault> {
        check_name(name)?;
        let workplace = Workplace::make(&self.path.join("tmp"), self.hands())?;
        let ids = self.hands().ids();
        let mut layering = Layering { store: self, image: name, base: name.to_owned(), ids, progress };
        let (resolved, source) = match source {
            Source::Path(path) => {
                let shown = path.display().to_string();
                let resolved = if path.is_dir() {
                    let folder = path.canonicalize().doing_to("read", &shown)?;
                    match Layout::find(&folder)? {
                        Some(layout) => layering.layout(layout)?,
                        None => layering.folder(&folder)?,
                    }
                } else {
                    let mut file = File::open(path).doing_to("open", &shown)?;
                    archive(&mut layering, &workplace, &mut file, &shown)?
                };
                let path = std::path::absolute(path).doing_to("read", &shown)?;
                (resolved, path.display().to_string())
            }
            Source::Stream { reader, shown } => {
                (archive(&mut layering, &workplace, reader, shown)?, shown.to_owned())
            }
        };
        let imported = Imported {
            name: name.to_owned(),
            layers: resolved.guard.metas().map(|meta| meta.key.clone()).collect(),
            imported: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            env: resolved.env,
            workdir: resolved.workdir,
            user: resolved.user,
            source,
        };
        if imported.layers.is_empty() {
            return Err(damaged("the image has no layers").at(imported.source));
        }
        self.name_image(&imported, &workplace)?;
        Ok(imported)
    }
}

fn check_name(name: &str) -> Result<(), Fault> {
    let why = if name == "host" {
        "`host` is the host's own root"
    } else if !is_image_name(name) {
        "choose a name of letters, digits, `.`, `_` and `-`"
    } else if TAR_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        "in testbed.toml it would be the path of a tar file"
    } else if name.len() > LONGEST_NAME {
        "it has more than 128 characters"
    } else {
        return Ok(());
    };
    Err(Fault::new(FaultKind::Invalid, format!("import an image as {name:?}")).hint(why))
}

/// Unpacks an archive, looks what it is, and makes layers of it. It is read once, to its end.
fn archive(
    layering: &mut Layering<'_, '_>,
    workplace: &Workplace,
    reader: &mut dyn Read,
    shown: &str,
) -> Result<Resolved, Fault> {
    let tree = workplace.path().join("tree");
    let make = || {
        DirBuilder::new().mode(0o755).create(&tree)?;
        // Whatever the umask says: it becomes the root folder of machines.
        std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o755))
    };
    make().doing_to("make a folder for an import", tree.display().to_string())?;
    let (started, step) = (Instant::now(), format!("unpack {shown}"));
    (layering.progress)(Progress::Building { image: layering.image, step: &step });
    let mut reader = Whole::new(decompressed(reader).map_err(|error| unreadable(&error).at(shown))?);
    let hands = layering.store.hands();
    hands.unpack(&mut reader, hands.target(tree.clone(), Vec::new()), Whiteouts::Plain)?;
    let digest = reader.end().map_err(|fault| fault.at(shown))?;
    let layout = Layout::find(&tree).map_err(|fault| fault.at(shown))?;
    (layering.progress)(Progress::Built { image: layering.image, step: &step, took: started.elapsed() });
    if let Some(layout) = layout {
        return layering.layout(layout);
    }
    let mut inputs = layering.inputs("archive", None);
    inputs.add(digest);
    let mut resolved = Resolved::default();
    // What there was to tell is told.
    let mut quiet = Layering { progress: &mut |_| {}, base: layering.base.clone(), ..*layering };
    quiet.layer(inputs.key(), &step, &mut resolved, &mut |folder, _, _| {
        std::fs::rename(&tree, folder.join("upper")).doing("move what was unpacked into the store")
    })?;
    Ok(resolved)
}

/// An archive of which all is read: what it holds, in a digest, and whether its end has come.
struct Whole<R> {
    reader: R,
    digest: Sha256,
    bytes: u64,
    /// How many zeros came last.
    zeros: u64,
}

impl<R: Read> Whole<R> {
    fn new(reader: R) -> Whole<R> {
        Whole { reader, digest: Sha256::new(), bytes: 0, zeros: 0 }
    }

    /// Reads what comes after the last entry, and gives the digest of all.
    fn end(mut self) -> Result<String, Fault> {
        let most = MOST_BYTES;
        let rest = io::copy(&mut (&mut self).take(most), &mut io::sink());
        if rest.map_err(|error| unreadable(&error))? == most {
            return Err(damaged("it does not end"));
        }
        if self.bytes == 0 {
            return Err(damaged("it is empty"));
        }
        if self.zeros < BLOCK {
            return Err(damaged("its end is missing").hint("what wrote it may have been interrupted"));
        }
        if self.zeros == self.bytes {
            return Err(damaged("nothing is in it"));
        }
        Ok(hex(&self.digest.finalize()))
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        let read = &buffer[..length];
        self.digest.update(read);
        self.bytes += length as u64;
        match read.iter().rev().position(|byte| *byte != 0) {
            Some(zeros) => self.zeros = zeros as u64,
            None => self.zeros += length as u64,
        }
        Ok(length)
    }
}

fn damaged(why: &str) -> Fault {
    Fault::new(FaultKind::Image, format!("read the archive: {why}"))
}

fn unreadable(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(_) => Fault::system("read the archive", error),
        None => damaged(&error.to_string()),
    }
}
