//! What can be set, and who has set it. A flag goes before the environment, that before the file, and that before what
//! holds by default.

use crate::folders;
use crate::images;
use crate::place::Place;
use serde::{Serialize, Serializer};
use std::num::NonZeroUsize;
use std::time::Duration;
use testbed::spec::Deadlines;

/// Where a value comes from. Flags are given anew with each call, so none is told of here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A variable of the environment.
    Variable(String),
    /// The testbed's file.
    File(String),
    /// Nobody has set it.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Variable(name) => f.write_str(name),
            Origin::File(path) => f.write_str(path),
            Origin::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    /// What it is.
    pub(crate) name: String,
    /// How it is set; nothing if it is not.
    pub(crate) value: Option<String>,
    /// By whom.
    pub(crate) origin: Origin,
}

/// All settings as they hold for a testbed.
pub(crate) fn all(place: &Place) -> Vec<Setting> {
    let mut found = vec![folders::cache_setting()];
    found.extend(images::VARIABLES.iter().map(|(name, what)| variable(name, what)));
    found.push(variable("NO_COLOR", "no colours"));
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    found.push(Setting {
        name: "tests at once (--jobs)".into(),
        value: Some(cores.to_string()),
        origin: Origin::Default,
    });
    let file = place.file().ok();
    let loaded = file.as_ref().and_then(|_| place.load().ok());
    let default = Deadlines::default();
    let deadlines = loaded.as_ref().map_or(&default, |(testbed, _)| testbed.deadlines());
    let file = file.map_or(Origin::Default, |path| Origin::File(path.display().to_string()));
    for (name, of) in [
        ("start", Deadlines::start as fn(&Deadlines) -> Duration),
        ("ready", Deadlines::ready),
        ("test", Deadlines::test),
        ("layer-step", Deadlines::layer_step),
        ("stop", Deadlines::stop),
    ] {
        let value = of(deadlines);
        // A file that repeats the default sets nothing.
        let origin = if value == of(&default) { Origin::Default } else { file.clone() };
        let value = Some(format!("{} s", value.as_secs_f64()));
        found.push(Setting { name: format!("deadlines.{name}"), value, origin });
    }
    found
}

fn variable(name: &str, what: &str) -> Setting {
    let (value, origin) = match images::variable(name) {
        Some((name, value)) => (Some(without_password(&value)), Origin::Variable(name)),
        None => (None, Origin::Default),
    };
    Setting { name: what.to_owned(), value, origin }
}

/// A URL without who calls: what is shown here is sent to others who shall help.
fn without_password(value: &str) -> String {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), value),
    };
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}***@{place}"),
        None => value.to_owned(),
    }
}
