use super::output::{Output, print};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::folders;
use crate::images;
use crate::launched::Launched;
use crate::place::Place;
use crate::terminal;
use serde::Serialize;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use testbed::bed::{Images as _, StoredImages};
use testbed::image::{Collect, Key, Listed, Meta, Source, Store};
use testbed::spec::{parse_duration, parse_size};
use testbed::{FaultKind, host};

/// List, build, import and remove images and their layers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Arguments {
    /// List the layers in the store, those used last first, and the names of imported images.
    Ls {
        #[command(flatten)]
        output: Output,
    },
    /// Build the images of the testbed, as far as they are not built.
    Build {
        /// These; those of all machines if none is named.
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
        #[command(flatten)]
        output: Output,
        /// Show all that building machines write, not its end alone where they fail.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Take in an image under a name, for all testbeds: `image = "NAME"`.
    ///
    /// It may be a root file system, an OCI layout, or what `docker save` or `podman save` wrote. An image that has the
    /// name already is replaced; what machines run on stays.
    Import {
        /// What to call it.
        #[arg(value_name = "NAME")]
        name: String,
        /// A tar archive, also one compressed with gzip, xz or zstd; a folder; `-` for an archive on standard input.
        #[arg(value_name = "SOURCE")]
        source: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Remove imported images, or layers and those that stand on them. None that is in use.
    Rm {
        /// Names of imported images; keys of layers, or how they begin.
        #[arg(value_name = "NAME|LAYER", required = true)]
        names: Vec<String>,
    },
    /// Remove layers that nobody uses, those first that were not used for longest. Imported images stay.
    Prune {
        /// Those that were not used for so long: `12h`, `7d`. All, if nothing else is said either.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        unused_for: Option<Duration>,
        /// As many as it takes to have no more than this: `5G`.
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        most: Option<u64>,
        #[command(flatten)]
        output: Output,
    },
}

/// A layer for programs.
#[derive(Serialize)]
struct Layer<'a> {
    #[serde(flatten)]
    meta: &'a Meta,
    /// Seconds since 1970.
    used: u64,
    in_use: bool,
    /// The imported images that it is the top of.
    names: &'a [String],
}

/// An image that was built, for programs.
#[derive(Serialize)]
struct Built {
    image: String,
    host: bool,
    layers: Vec<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        match self {
            Arguments::Ls { output } => list(&store()?.list()?, output)?,
            Arguments::Build { images, output, verbose } => build(place, images, output, verbose)?,
            Arguments::Import { name, source, output } => import(&name, &source, output)?,
            Arguments::Rm { names } => remove(&names)?,
            Arguments::Prune { unused_for, most, output } => {
                let all = unused_for.is_none() && most.is_none();
                let unused_for = if all { Some(Duration::ZERO) } else { unused_for };
                let gone = store()?.collect(&Collect { unused_for, most_bytes: most, step: None })?;
                output.write(&gone, || {
                    let bytes = gone.iter().map(|layer| layer.size).sum();
                    format!("{} layers with {} have gone\n", gone.len(), size(bytes))
                })?;
            }
        }
        Ok(Exit::Success)
    }
}

fn store() -> Result<Store, Failure> {
    Ok(Store::open(folders::cache()?)?)
}

/// Removes what is named: an imported image, or else a layer.
fn remove(names: &[String]) -> Result<(), Failure> {
    let store = store()?;
    let imported: Vec<String> = store.imported()?.into_iter().map(|image| image.name).collect();
    let (images, layers): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| imported.contains(name));
    let keys = layers.iter().map(|layer| store.find(layer)).collect::<Result<Vec<Key>, _>>();
    // One that is not there is the caller's mistake.
    let keys = keys.map_err(|fault| {
        let hint = "`testbed image ls` lists the images and layers that there are";
        Failure::call(fault.to_string()).hint(hint)
    })?;
    let mut gone = Vec::new();
    let mut lines = String::new();
    for (position, name) in images.iter().enumerate() {
        if !images[..position].contains(name) {
            gone.extend(store.remove_imported(name)?);
            lines += &format!("{name}\n");
        }
    }
    for key in keys {
        // It may have stood on one that was named before it.
        if !gone.contains(&key) {
            gone.extend(store.remove(&key)?);
        }
    }
    lines.extend(gone.iter().map(|key| format!("{}\n", key.short())));
    print(&lines)
}

fn import(name: &str, source: &Path, output: Output) -> Result<(), Failure> {
    let mut input = std::io::stdin();
    let from_input = source == Path::new("-");
    if from_input && input.is_terminal() {
        return Err(Failure::call("an archive cannot come from the terminal")
            .hint("`docker export CONTAINER | testbed image import NAME -`"));
    }
    let source = if from_input {
        Source::Stream { reader: &mut input, shown: "standard input" }
    } else {
        Source::Path(source)
    };
    let store = store()?;
    let imported = store.import(name, source, &mut |progress| images::tell(progress));
    let image = imported.map_err(|fault| match fault.kind {
        FaultKind::Invalid | FaultKind::NotFound => {
            let failure = Failure::call(fault.to_string());
            fault.hint.into_iter().fold(failure, Failure::hint)
        }
        _ => fault.into(),
    })?;
    let layers = store.list()?;
    let layers = layers.iter().filter(|layer| image.layers.contains(&layer.meta.key));
    let bytes = layers.map(|layer| layer.meta.size).sum();
    output.write(&image, || format!("{name}: {}, {}\n", counted(image.layers.len()), size(bytes)))
}

/// `1 layer`, `2 layers`.
fn counted(layers: usize) -> String {
    format!("{layers} {}", if layers == 1 { "layer" } else { "layers" })
}

/// `7.5 MiB`, to be read and compared, not to be read back.
fn size(bytes: u64) -> String {
    let steps = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (bytes.max(1).ilog2() / 10).min(4);
    if step == 0 {
        format!("{bytes} B")
    } else {
        format!("{:.1} {}", bytes as f64 / f64::from(1024_u32).powi(step as i32), steps[step as usize])
    }
}

/// As in the file, and in days.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const DAY: u64 = 24 * 3600;
    match text.trim().strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) => Ok(Duration::from_secs(u64::from(days) * DAY)),
        _ => parse_duration(text),
    }
}

fn list(layers: &[Listed], output: Output) -> Result<(), Failure> {
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let all = layers.iter().map(|l| Layer {
        meta: &l.meta,
        used: seconds(l.used),
        in_use: l.in_use,
        names: &l.names,
    });
    output.write(&all.collect::<Vec<_>>(), || {
        let now = seconds(SystemTime::now());
        let rows = layers.iter().map(|layer| {
            let used = if layer.in_use {
                "now".to_owned()
            } else {
                format!("{} ago", super::ls::age(now.saturating_sub(seconds(layer.used))))
            };
            let meta = &layer.meta;
            let (key, size) = (meta.key.short().to_owned(), size(meta.size));
            let parent = meta.below.first().map_or("", Key::short).to_owned();
            vec![key, size, used, layer.names.join(", "), meta.base.clone(), parent, meta.step.clone()]
        });
        terminal::table(&["LAYER", "SIZE", "USED", "NAME", "BASE", "ON", "STEP"], rows)
    })
}

fn build(place: &Place, mut names: Vec<String>, output: Output, verbose: bool) -> Result<(), Failure> {
    let testbed = place.load_telling()?;
    if let Some(unknown) = names.iter().find(|name| testbed.image(name).is_none()) {
        let known: Vec<&str> = testbed.images().iter().map(|image| image.name()).collect();
        return Err(
            Failure::call(format!("no image `{unknown}`")).hint(format!("there are: {}", known.join(", ")))
        );
    }
    if names.is_empty() {
        for machine in testbed.machines() {
            if !names.iter().any(|name| name == machine.image()) {
                names.push(machine.image().to_owned());
            }
        }
    }
    // Leftovers of keepers that were killed keep nothing from being built.
    let _ = host::sweep();
    let tell = if verbose { images::tell_all } else { images::tell };
    let engine = Launched::start()?;
    let stored = StoredImages {
        store: &store()?,
        engine: engine.clone(),
        options: images::options(),
        progress: &tell,
    };
    let mut built = Vec::new();
    for image in names {
        let root = stored.resolve(&testbed, &image)?;
        built.push(Built { image, host: root.host, layers: root.layers });
    }
    output.write(&built, || {
        let line = |Built { image, host, layers }: &Built| {
            let below = if *host { ", on the host's root" } else { "" };
            format!("{image}: {}{below}\n", counted(layers.len()))
        };
        built.iter().map(line).collect()
    })
}
