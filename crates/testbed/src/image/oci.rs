//! Folders in OCI image layout (OCI image format specification 1.1): index, manifest, layers; and what `docker save`
//! wrote, unpacked (Docker image specification 1.2, "combined image JSON + filesystem changeset format").
//!
//! Every blob of a layout is named by its digest, and what is read is held against it. The index and all that it leads
//! to may come from anywhere: sizes are bounded, and names lead to nothing but files of the layout.

use super::key::hex;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The longest index, manifest or configuration, in bytes.
const MOST_JSON: u64 = 8 << 20;
/// How many indexes may lead to one another.
const DEEPEST_INDEX: usize = 4;
/// More layers than overlay can stack (Linux: 500 lower folders).
const MOST_LAYERS: usize = 400;

/// An image of a layout, chosen for this computer.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// Lowest first.
    pub(super) layers: Vec<Blob>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
}

/// A file of a layout whose digest was checked to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
    size: u64,
    /// In the layout's folder.
    path: PathBuf,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(flatten)]
    platform: Platform,
    config: Option<Execution>,
}

/// An image in what `docker save` wrote.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: PathBuf,
    #[serde(rename = "RepoTags", default)]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<PathBuf>,
}

#[derive(Default, Deserialize)]
struct Execution {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
    #[serde(rename = "WorkingDir", default)]
    workdir: String,
    #[serde(rename = "User", default)]
    user: String,
}

impl Layout {
    /// Reads the layout in a folder.
    pub(super) fn read(folder: &Path) -> Result<Layout, Fault> {
        let read = || {
            let text = bounded(folder, Path::new("index.json"))?;
            let manifest = choose(folder, parse(&text, "index.json")?, DEEPEST_INDEX)?;
            let layers = manifest.layers.iter().map(Blob::of).collect::<Result<_, _>>()?;
            Layout::new(folder, layers, parse(&json(folder, &manifest.config)?, "image configuration")?)
        };
        located(folder, read())
    }

    /// Reads what is in a folder if it is a layout, or what `docker save` wrote; none if it is neither.
    pub(super) fn find(folder: &Path) -> Result<Option<Layout>, Fault> {
        // The newer ones are both; only this list says how many images there are.
        if let Ok(text) = bounded(folder, Path::new("manifest.json"))
            && let Ok(saved) = serde_json::from_slice::<Vec<Saved>>(&text)
        {
            return located(folder, Layout::saved(folder, &saved)).map(Some);
        }
        if folder.join("oci-layout").exists() { Layout::read(folder).map(Some) } else { Ok(None) }
    }

    /// Whether a folder holds such an image, not a root file system; nothing else is looked at.
    pub(super) fn is_in(folder: &Path) -> bool {
        let saved = || {
            let text = bounded(folder, Path::new("manifest.json")).ok()?;
            serde_json::from_slice::<Vec<Saved>>(&text).ok()
        };
        open(folder, Path::new("oci-layout")).is_ok() || saved().is_some()
    }

    fn saved(folder: &Path, saved: &[Saved]) -> Result<Layout, Fault> {
        let [image] = saved else {
            let names = saved.iter().flat_map(|image| image.tags.iter().flatten().map(String::as_str));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(bad(format!("it holds {} images: {names}", saved.len())).hint("save one image alone"));
        };
        let configuration: Configuration = parse(&bounded(folder, &image.config)?, "image configuration")?;
        if !configuration.platform.fits() {
            let theirs = &configuration.platform;
            let theirs = format!("{}/{}", theirs.os, theirs.architecture);
            return Err(bad(format!("the image is for {theirs}, not for linux/{}", architecture())));
        }
        let layers = image.layers.iter().take(MOST_LAYERS + 1);
        let layers = layers.map(|path| Blob::in_file(folder, path)).collect::<Result<_, _>>()?;
        Layout::new(folder, layers, configuration)
    }

    fn new(folder: &Path, layers: Vec<Blob>, configuration: Configuration) -> Result<Layout, Fault> {
        if layers.len() > MOST_LAYERS {
            return Err(bad(format!("the image has {} layers", layers.len())));
        }
        let execution = configuration.config.unwrap_or_default();
        let variables = execution.env.unwrap_or_default();
        let env = variables
            .iter()
            .filter_map(|text| text.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let (workdir, user) = (given(execution.workdir), given(execution.user));
        Ok(Layout { folder: folder.to_owned(), layers, env, workdir, user })
    }

    /// Gives a reader of a layer's bytes to `consume`; afterwards all of them have been held against the digest.
    pub(super) fn read_layer<T>(
        &self,
        blob: &Blob,
        consume: impl FnOnce(&mut dyn Read) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let shown = self.folder.join(&blob.path).display().to_string();
        let file = open(&self.folder, &blob.path).doing_to("open a layer of the image", &shown)?;
        // One byte more than promised is enough to see that it is another one.
        let mut reader = Checked { file: file.take(blob.size.saturating_add(1)), digest: Sha256::new() };
        let result = consume(&mut reader);
        io::copy(&mut reader, &mut io::sink()).doing_to("read a layer of the image", &shown)?;
        if hex(&reader.digest.finalize()) != blob.sha256 {
            return Err(changed(blob));
        }
        result
    }
}

impl Blob {
    fn of(descriptor: &Descriptor) -> Result<Blob, Fault> {
        let digits = descriptor.digest.strip_prefix("sha256:").unwrap_or_default();
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 64 || !digits.bytes().all(hexadecimal) {
            return Err(bad(format!("{:?} is not a digest that can be checked", descriptor.digest)));
        }
        let path = Path::new("blobs/sha256").join(digits);
        Ok(Blob { sha256: digits.to_owned(), size: descriptor.size, path })
    }

    /// A file that nothing says the digest of.
    fn in_file(folder: &Path, path: &Path) -> Result<Blob, Fault> {
        let shown = folder.join(path).display().to_string();
        let file = open(folder, path).doing_to("open a layer of the image", &shown)?;
        let size = file.metadata().doing_to("read", &shown)?.len();
        let mut reader = Checked { file: file.take(size), digest: Sha256::new() };
        io::copy(&mut reader, &mut io::sink()).doing_to("read a layer of the image", &shown)?;
        Ok(Blob { sha256: hex(&reader.digest.finalize()), size, path: path.to_owned() })
    }
}

impl Platform {
    fn fits(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }
}

/// What this computer is called in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The manifest for this computer: the first that fits, or the only one.
fn choose(folder: &Path, index: Index, deepest: usize) -> Result<Manifest, Fault> {
    let known = index.manifests.len();
    let chosen = index
        .manifests
        .iter()
        .find(|one| one.platform.as_ref().is_some_and(Platform::fits))
        .or_else(|| index.manifests.iter().find(|one| one.platform.is_none()));
    let Some(chosen) = chosen else {
        return Err(bad(format!("none of {known} images in the layout is for linux/{}", architecture())));
    };
    let text = json(folder, chosen)?;
    let is_index = chosen.media_type.ends_with("image.index.v1+json")
        || chosen.media_type.ends_with("manifest.list.v2+json");
    if is_index {
        let deeper = deepest.checked_sub(1).ok_or_else(|| bad("indexes lead to indexes".into()))?;
        return choose(folder, parse(&text, "index")?, deeper);
    }
    parse(&text, "manifest")
}

fn json(folder: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, Fault> {
    let blob = Blob::of(descriptor)?;
    let text = bounded(folder, &blob.path)?;
    if hex(&Sha256::digest(&text)) != blob.sha256 {
        return Err(changed(&blob));
    }
    Ok(text)
}

/// Opens a file of a layout. Links may lead from one of its files to another, as older versions of Docker write them,
/// but not out of it; pipes and devices are no part of any.
fn open(folder: &Path, path: &Path) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = openat2(File::open(folder)?, path, flags, Mode::empty(), resolve)?.into();
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

/// Says where the layout is that is wrong.
fn located<T>(folder: &Path, read: Result<T, Fault>) -> Result<T, Fault> {
    read.map_err(|fault| match fault.path {
        Some(_) => fault,
        None => fault.at(folder.display().to_string()),
    })
}

struct Checked {
    file: io::Take<File>,
    digest: Sha256,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.digest.update(&buffer[..length]);
        Ok(length)
    }
}

fn bounded(folder: &Path, path: &Path) -> Result<Vec<u8>, Fault> {
    let shown = folder.join(path).display().to_string();
    let mut text = Vec::new();
    let file = open(folder, path).doing_to("open", &shown)?;
    file.take(MOST_JSON + 1).read_to_end(&mut text).doing_to("read", &shown)?;
    if text.len() as u64 > MOST_JSON {
        return Err(bad(format!("more than {MOST_JSON} bytes of JSON")).at(shown));
    }
    Ok(text)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a [u8], what: &str) -> Result<T, Fault> {
    serde_json::from_slice(text).map_err(|error| bad(format!("{what}: {error}")))
}

fn bad(what: String) -> Fault {
    Fault::new(FaultKind::Image, format!("read the image: {what}"))
}

fn changed(blob: &Blob) -> Fault {
    bad(format!("the blob {} is not what its digest says", blob.sha256))
}
