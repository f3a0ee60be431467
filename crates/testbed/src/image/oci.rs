//! Folders in OCI image layout (OCI image format specification 1.1): index, manifest, layers.
//!
//! Every blob is named by its digest, and what is read is held against it. The index and all that it leads to may come
//! from anywhere: sizes are bounded, and a digest can name nothing but a file of the layout.

use super::key::hex;
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

/// A digest that was checked to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
    size: u64,
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
    config: Option<Execution>,
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
        let text = bounded(&folder.join("index.json"))?;
        let index: Index = parse(&text, "index.json")?;
        let mut layout = Layout {
            folder: folder.to_owned(),
            layers: Vec::new(),
            env: Vec::new(),
            workdir: None,
            user: None,
        };
        let manifest = layout.choose(index, DEEPEST_INDEX)?;
        if manifest.layers.len() > MOST_LAYERS {
            return Err(bad(format!("the image has {} layers", manifest.layers.len())));
        }
        layout.layers = manifest.layers.iter().map(Blob::of).collect::<Result<_, _>>()?;
        let text = layout.json(&manifest.config)?;
        let configuration: Configuration = parse(&text, "image configuration")?;
        let execution = configuration.config.unwrap_or_default();
        let variables = execution.env.unwrap_or_default();
        layout.env = variables
            .iter()
            .filter_map(|text| text.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let given = |text: String| (!text.is_empty()).then_some(text);
        layout.workdir = given(execution.workdir);
        layout.user = given(execution.user);
        Ok(layout)
    }

    /// The manifest for this computer: the first that fits, or the only one.
    fn choose(&self, index: Index, deepest: usize) -> Result<Manifest, Fault> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture;
        let known = index.manifests.len();
        let chosen = index
            .manifests
            .iter()
            .find(|one| one.platform.as_ref().is_some_and(fits))
            .or_else(|| index.manifests.iter().find(|one| one.platform.is_none()));
        let Some(chosen) = chosen else {
            return Err(bad(format!("none of {known} images in the layout is for linux/{architecture}")));
        };
        let text = self.json(chosen)?;
        let is_index = chosen.media_type.ends_with("image.index.v1+json")
            || chosen.media_type.ends_with("manifest.list.v2+json");
        if is_index {
            let deeper = deepest.checked_sub(1).ok_or_else(|| bad("indexes lead to indexes".into()))?;
            return self.choose(parse(&text, "index")?, deeper);
        }
        parse(&text, "manifest")
    }

    fn path(&self, blob: &Blob) -> PathBuf {
        self.folder.join("blobs/sha256").join(&blob.sha256)
    }

    fn json(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Fault> {
        let blob = Blob::of(descriptor)?;
        let text = bounded(&self.path(&blob))?;
        if hex(&Sha256::digest(&text)) != blob.sha256 {
            return Err(changed(&blob));
        }
        Ok(text)
    }

    /// Gives a reader of a layer's bytes to `consume`; afterwards all of them have been held against the digest.
    pub(super) fn read_layer<T>(
        &self,
        blob: &Blob,
        consume: impl FnOnce(&mut dyn Read) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let path = self.path(blob);
        let shown = path.display().to_string();
        let file = File::open(&path).doing_to("open a layer of the image", &shown)?;
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
        Ok(Blob { sha256: digits.to_owned(), size: descriptor.size })
    }
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

fn bounded(path: &Path) -> Result<Vec<u8>, Fault> {
    let shown = path.display().to_string();
    let mut text = Vec::new();
    let file = File::open(path).doing_to("open", &shown)?;
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
    Fault::new(FaultKind::Image, format!("read the OCI layout: {what}"))
}

fn changed(blob: &Blob) -> Fault {
    bad(format!("the blob {} is not what its digest says", blob.sha256))
}
