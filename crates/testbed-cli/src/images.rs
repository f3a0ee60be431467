//! A testbed's images, had before its first copy, with a word on each layer that has to be built.

use crate::failure::Failure;
use crate::folders;
use crate::terminal;
use std::sync::Arc;
use testbed::Engine;
use testbed::bed::{HostOnly, Prepared, StoredImages};
use testbed::image::{self, Progress, SiteProxy, Store};
use testbed::spec::Testbed;

/// Variables that say how images are built, and what each says.
pub(crate) const VARIABLES: [(&str, &str); 4] = [
    ("TESTBED_MIRROR", "mirror of Debian"),
    ("http_proxy", "proxy of builds"),
    ("https_proxy", "proxy of builds, TLS"),
    ("no_proxy", "reached without proxy"),
];

/// Has all images of a testbed.
///
/// # Errors
/// Why one cannot be had, with the end of what its builder wrote.
pub(crate) fn prepare(testbed: &Arc<Testbed>, engine: &Engine) -> Result<Prepared, Failure> {
    if HostOnly::suffices(testbed) {
        return Ok(Prepared::new(testbed, &HostOnly)?);
    }
    let store = Store::open(folders::cache()?)?;
    let images = StoredImages { store: &store, engine: engine.clone(), options: options(), progress: &tell };
    Ok(Prepared::new(testbed, &images)?)
}

/// A variable that is set, and what it is set to: by this name or, as most programs read them, by it in capitals.
pub(crate) fn variable(name: &str) -> Option<(String, String)> {
    let set = |name: String| {
        let value = std::env::var(&name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    };
    set(name.to_owned()).or_else(|| set(name.to_ascii_uppercase()))
}

/// How images are built for this user.
pub(crate) fn options() -> image::Options {
    let value = |name: &str| variable(name).map(|(_, value)| value);
    image::Options {
        mirror: value("TESTBED_MIRROR"),
        proxy: SiteProxy {
            http: value("http_proxy"),
            https: value("https_proxy"),
            except: value("no_proxy"),
        },
        ..image::Options::default()
    }
}

/// Says what is being built. What builders write is shown where they fail.
pub(crate) fn tell(progress: Progress<'_>) {
    match progress {
        Progress::Building { image, step } => terminal::talk(&format!("image {image}: {step} ...\n")),
        Progress::Built { image, step, took } => {
            terminal::talk(&format!("image {image}: {step}: built in {:.1} s\n", took.as_secs_f64()));
        }
        Progress::Output(_) => {}
    }
}

/// As [`tell`], and passes on what builders write.
pub(crate) fn tell_all(progress: Progress<'_>) {
    match progress {
        Progress::Output(bytes) => terminal::talk(&String::from_utf8_lossy(bytes)),
        other => tell(other),
    }
}
