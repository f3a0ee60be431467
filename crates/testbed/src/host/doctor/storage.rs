//! Where images are kept, and where they come from.

use super::{Finding, Need, Options, Prober};
use crate::image;
use rustix::fs::statvfs;
use std::path::{Path, PathBuf};
use testbed_agent::launch::Probe;
use testbed_agent::layers::opaque;
use testbed_agent::{Doing as _, Fault};

const AREA: &str = "images";
/// A Debian with a few packages and its build take about as much.
const ROOM: u64 = 1 << 30;

pub(super) fn examine(prober: &Prober, options: &Options) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(store) = &options.store {
        found.extend(place(prober, store));
    }
    found.push(match image::debian_archives(options.mirror.as_deref()) {
        Ok((release, archives)) => {
            Finding::good(AREA, "Debian", format!("debian:{release} is built from {}", archives.join(", ")))
        }
        Err(fault) => {
            let effect = "`debian:CODENAME` cannot be built";
            let lack = Finding::lacking(AREA, "Debian", Need::Some, fault.to_string(), effect);
            lack.remedy(fault.hint.unwrap_or_else(|| "give a root file system as a tar or OCI layout".into()))
        }
    });
    found
}

fn place(prober: &Prober, store: &Path) -> Vec<Finding> {
    // The last ancestor of a path that is not absolute is empty: this folder.
    let existing = store.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let shown = store.display();
    let effect = "only `image = \"host\"` can be used";
    let other = "name another folder with TESTBED_CACHE";
    if let Err(fault) = write_in(existing) {
        return vec![Finding::lacking(AREA, "store", Need::Some, fault.to_string(), effect).remedy(other)];
    }
    let mut found = vec![Finding::good(AREA, "store", shown.to_string())];
    if let Ok(room) = statvfs(existing) {
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        let fact = format!("{:.1} GiB free for {shown}", free as f64 / (1_u64 << 30) as f64);
        found.push(if free >= ROOM {
            Finding::good(AREA, "room", fact)
        } else {
            Finding::lacking(AREA, "room", Need::Some, fact, "images that need building may not fit")
                .remedy("`testbed image prune`, or another folder with TESTBED_CACHE")
        });
    }
    if prober.is_root() {
        let mapped = prober.attempt(Probe::IdMap(existing.display().to_string()));
        let works = "layers can be shown with other owners";
        let lack = Finding::of(AREA, "idmapped layers", mapped, Need::Some, works, effect);
        found.push(if lack.effect.is_some() { lack.remedy(other) } else { lack });
    }
    found
}

/// Whether layers could be written here: files, and user attributes on them.
fn write_in(folder: &Path) -> Result<(), Fault> {
    let path: PathBuf = folder.join(format!(".testbed-doctor-{}", std::process::id()));
    let shown = folder.display().to_string();
    std::fs::create_dir(&path).doing_to("write in", &shown)?;
    let set = std::fs::File::open(&path).and_then(opaque::mark_by_user);
    std::fs::remove_dir(&path).doing_to("write in", &shown)?;
    set.doing_to("set a user attribute in", &shown)
}
