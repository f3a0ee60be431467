use super::Format;
use super::check::write_json;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::folders;
use crate::images;
use crate::place::Place;
use crate::terminal;
use serde::Serialize;
use std::time::{Duration, SystemTime};
use testbed::bed::{Images as _, StoredImages};
use testbed::image::{Collect, Key, Listed, Meta, Store};
use testbed::spec::{parse_duration, parse_size};
use testbed::{Engine, host};

/// List, build and remove images and their layers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Arguments {
    /// List the layers in the store, those used last first.
    Ls {
        /// How to write them.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: Format,
    },
    /// Build the images of the testbed, as far as they are not built.
    Build {
        /// These; those of all machines if none is named.
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
        /// How to write which layers they have.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: Format,
        /// Show all that building machines write, not its end alone where they fail.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Remove layers, and those that stand on them. None that is in use.
    Rm {
        /// Keys, or how they begin.
        #[arg(value_name = "LAYER", required = true)]
        layers: Vec<String>,
    },
    /// Remove layers that nobody uses, those first that were not used for longest.
    Prune {
        /// Those that were not used for so long: `12h`, `7d`. All, if nothing else is said either.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        unused_for: Option<Duration>,
        /// As many as it takes to have no more than this: `5G`.
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        most: Option<u64>,
        /// How to write what has gone.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: Format,
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
}

/// An image that was built, for programs.
#[derive(Serialize)]
struct Built {
    image: String,
    host: bool,
    layers: Vec<std::path::PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        match self {
            Arguments::Ls { format } => list(&store()?.list()?, format)?,
            Arguments::Build { images, format, verbose } => build(place, images, format, verbose)?,
            Arguments::Rm { layers } => {
                let store = store()?;
                let keys = layers.iter().map(|layer| store.find(layer)).collect::<Result<Vec<Key>, _>>();
                let mut gone = Vec::new();
                for key in keys.map_err(unknown)? {
                    // It may have stood on one that was named before it.
                    if !gone.contains(&key) {
                        gone.extend(store.remove(&key)?);
                    }
                }
                let lines: String = gone.iter().map(|key| format!("{}\n", key.short())).collect();
                terminal::data(&lines).map_err(|e| Failure::io("write", e))?;
            }
            Arguments::Prune { unused_for, most, format } => {
                let all = unused_for.is_none() && most.is_none();
                let unused_for = if all { Some(Duration::ZERO) } else { unused_for };
                let gone = store()?.collect(&Collect { unused_for, most_bytes: most })?;
                if format == Format::Json {
                    write_json(&gone)?;
                } else {
                    let bytes = gone.iter().map(|layer| layer.size).sum();
                    let text = format!("{} layers with {} have gone\n", gone.len(), size(bytes));
                    terminal::data(&text).map_err(|e| Failure::io("write", e))?;
                }
            }
        }
        Ok(Exit::Success)
    }
}

fn store() -> Result<Store, Failure> {
    Ok(Store::open(folders::cache()?)?)
}

/// A layer that is not there is the caller's mistake.
fn unknown(fault: testbed::Fault) -> Failure {
    Failure::call(fault.to_string()).hint("`testbed image ls` lists the layers that there are")
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

fn list(layers: &[Listed], format: Format) -> Result<(), Failure> {
    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if format == Format::Json {
        let layers = layers.iter();
        let layers = layers.map(|l| Layer { meta: &l.meta, used: seconds(l.used), in_use: l.in_use });
        return write_json(&layers.collect::<Vec<_>>());
    }
    let now = seconds(SystemTime::now());
    let rows = layers.iter().map(|layer| {
        let used = if layer.in_use {
            "now".to_owned()
        } else {
            format!("{} ago", super::ls::age(now.saturating_sub(seconds(layer.used))))
        };
        let meta = &layer.meta;
        let parent = meta.below.first().map_or("", Key::short).to_owned();
        vec![meta.key.short().to_owned(), size(meta.size), used, meta.base.clone(), parent, meta.step.clone()]
    });
    let text = terminal::table(&["LAYER", "SIZE", "USED", "BASE", "ON", "STEP"], rows);
    terminal::data(&text).map_err(|e| Failure::io("write", e))
}

fn build(place: &Place, mut names: Vec<String>, format: Format, verbose: bool) -> Result<(), Failure> {
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
    let stored = StoredImages {
        store: &store()?,
        engine: Engine::start(host::setup()?)?,
        options: images::options(),
        progress: &tell,
    };
    let mut built = Vec::new();
    for image in names {
        let root = stored.resolve(&testbed, &image)?;
        built.push(Built { image, host: root.host, layers: root.layers });
    }
    if format == Format::Json {
        return write_json(&built);
    }
    let lines = built.iter().map(|Built { image, host, layers }| {
        let below = if *host { ", on the host's root" } else { "" };
        let word = if layers.len() == 1 { "layer" } else { "layers" };
        format!("{image}: {} {word}{below}\n", layers.len())
    });
    terminal::data(&lines.collect::<String>()).map_err(|e| Failure::io("write", e))
}
