//! Rules about crates and what they depend on.

use super::tree::Tree;
use super::{Finding, Rule};
use std::collections::{BTreeMap, BTreeSet};
use toml::de::DeTable;

const DIRECTION: Rule = Rule {
    invariant: "8. dependencies between crates point one way",
    advice: "move the code to the crate that may know both, or change MAY_USE in xtask/src/tidy/crates.rs and say why in ARCHITECTURE.md",
};

const SYNCHRONOUS: Rule = Rule {
    invariant: "2. testbed-sys, testbed-subunit and testbed-agent are synchronous: nothing forks under a runtime",
    advice: "use threads and blocking calls, or do it in testbed",
};

const REASONED: Rule = Rule {
    invariant: "11. each dependency has a reason",
    advice: "docs/dependencies.md has one line for each dependency, in a table whose first column is its name in backquotes",
};

const READABLE: Rule =
    Rule { invariant: "8. dependencies between crates point one way", advice: "correct the manifest" };

const REASONS: &str = "docs/dependencies.md";

/// Which crates of the workspace a crate may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("testbed-sys", &[]),
    ("testbed-subunit", &[]),
    ("testbed-agent", &["testbed-sys"]),
    ("testbed", &["testbed-agent", "testbed-subunit", "testbed-sys"]),
    ("testbed-cli", &["testbed", "testbed-agent", "testbed-subunit", "testbed-sys"]),
    ("testbed-bench", &["testbed", "testbed-agent", "testbed-subunit", "testbed-sys"]),
    ("testbed-fuzz", &["testbed", "testbed-agent", "testbed-subunit", "testbed-sys"]),
    ("xtask", &[]),
];

const WITHOUT_RUNTIME: &[&str] = &["testbed-sys", "testbed-subunit", "testbed-agent"];

const RUNTIMES: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "async-io",
    "async-executor",
    "futures",
    "futures-util",
    "mio",
    "polling",
];

/// A Cargo.toml with a package.
struct Manifest<'a> {
    path: &'a str,
    name: String,
    /// Of every kind, for every target.
    dependencies: BTreeSet<String>,
}

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    let manifests = manifests(tree, findings);
    let own: BTreeSet<&str> = manifests.iter().map(|m| m.name.as_str()).collect();
    for manifest in &manifests {
        direction(manifest, &own, findings);
        runtimes(manifest, findings);
    }
    reasons(tree, &manifests, &own, findings);
}

fn manifests<'a>(tree: &'a Tree, findings: &mut Vec<Finding>) -> Vec<Manifest<'a>> {
    let mut manifests = Vec::new();
    for (path, text) in tree.files() {
        // Examples may be packages of their own, as a user would write them.
        if !(path == "Cargo.toml" || path.ends_with("/Cargo.toml")) || path.starts_with("examples/") {
            continue;
        }
        let root = match DeTable::parse(text) {
            Ok(root) => root.into_inner(),
            Err(error) => {
                findings.push(Finding::new(&READABLE, path, 0, error.message().to_owned()));
                continue;
            }
        };
        let mut dependencies = BTreeSet::new();
        collect_dependencies(&root, &mut dependencies);
        let name = table(&root, "package").and_then(|p| p.get("name")).and_then(|n| n.get_ref().as_str());
        let name = name.unwrap_or_default().to_owned();
        manifests.push(Manifest { path, name, dependencies });
    }
    manifests
}

fn table<'a, 'i>(parent: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    parent.get(key).and_then(|value| value.get_ref().as_table())
}

/// Takes what stands in tables of dependencies, also in those of `[target.…]` and `[workspace]`.
fn collect_dependencies(root: &DeTable<'_>, into: &mut BTreeSet<String>) {
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in table(root, kind).into_iter().flatten() {
            let renamed = value.get_ref().get("package").and_then(|p| p.get_ref().as_str());
            into.insert(renamed.unwrap_or(name.get_ref()).to_owned());
        }
    }
    let targets = table(root, "target").into_iter().flatten().filter_map(|(_, t)| t.get_ref().as_table());
    for inner in targets.chain(table(root, "workspace")) {
        collect_dependencies(inner, into);
    }
}

fn direction(manifest: &Manifest<'_>, own: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    if manifest.name.is_empty() {
        return;
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == manifest.name) else {
        let what = format!("`{}` has no place in the order of crates", manifest.name);
        findings.push(Finding::new(&DIRECTION, manifest.path, 0, what));
        return;
    };
    let used = manifest.dependencies.iter().filter(|d| own.contains(d.as_str()));
    for dependency in used.filter(|d| !allowed.contains(&d.as_str())) {
        let what = format!("`{}` may not use `{dependency}`", manifest.name);
        findings.push(Finding::new(&DIRECTION, manifest.path, 0, what));
    }
}

fn runtimes(manifest: &Manifest<'_>, findings: &mut Vec<Finding>) {
    if !WITHOUT_RUNTIME.contains(&manifest.name.as_str()) {
        return;
    }
    for dependency in manifest.dependencies.iter().filter(|d| RUNTIMES.contains(&d.as_str())) {
        let what = format!("`{}` uses the runtime `{dependency}`", manifest.name);
        findings.push(Finding::new(&SYNCHRONOUS, manifest.path, 0, what));
    }
}

fn reasons(tree: &Tree, manifests: &[Manifest<'_>], own: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let text = tree.text(REASONS).unwrap_or_default();
    let reasoned: BTreeMap<&str, usize> = text
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| Some((line.strip_prefix("| `")?.split_once('`')?.0, number)))
        .collect();
    let mut used = BTreeSet::new();
    for manifest in manifests {
        for dependency in manifest.dependencies.iter().filter(|d| !own.contains(d.as_str())) {
            if used.insert(dependency.as_str()) && !reasoned.contains_key(dependency.as_str()) {
                let what = format!("no reason for `{dependency}` in {REASONS}");
                findings.push(Finding::new(&REASONED, manifest.path, 0, what));
            }
        }
    }
    for (name, line) in reasoned {
        if !used.contains(name) {
            findings.push(Finding::new(&REASONED, REASONS, line, format!("nothing depends on `{name}`")));
        }
    }
}
