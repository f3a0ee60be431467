//! Builds the static agent that the library embeds.
//!
//! The agent is linked without any shared library, since it runs in machines whose files are anybody's, so it cannot
//! be an ordinary dependency. `TESTBED_AGENT` names a ready-made one instead.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=TESTBED_AGENT");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let crates = here.parent().expect("the crate lies in a folder").to_owned();
    for part in ["testbed-agent/src", "testbed-agent/Cargo.toml", "testbed-sys/src", "testbed-sys/Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", crates.join(part).display());
    }
    let agent = env::var_os("TESTBED_AGENT").map_or_else(|| build(&crates), PathBuf::from);
    println!("cargo::rustc-env=TESTBED_AGENT_FILE={}", agent.display());
}

fn build(crates: &Path) -> PathBuf {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out: one folder for the agents of all profiles, beside them.
    let target = out.ancestors().nth(4).expect("OUT_DIR is that deep").join("agent");
    let triple = env::var("TARGET").expect("cargo sets it");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .args(["build", "--package", "testbed-agent", "--bin", "testbed-agent", "--profile", "agent"])
        .args(["--target", &triple, "--target-dir"])
        .arg(&target)
        .current_dir(crates.join("testbed-agent"))
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_MAKEFLAGS")
        .status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "the static agent could not be built ({status:?}); set TESTBED_AGENT to a ready-made one"
    );
    target.join(triple).join("agent/testbed-agent")
}
