//! What guests run on.

use crate::testbed;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::image::{EngineBuilder, Options, Store};
use testbed::machine::Accelerator;

/// Where root's images are.
const STORE: &str = "/var/cache/testbed";

#[test]
fn a_device_that_is_no_kvm_is_found_out() {
    let spec = testbed::plan::decide_kernels_here(&Arc::new(testbed("alone"))).unwrap();
    let engine = testbed::host::engine().unwrap();
    let store = Store::open(STORE).unwrap();
    // It can be opened, and is not known by this name.
    let folder = std::env::temp_dir().join(format!("testbed-kvm-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let device = folder.join("kvm");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    let resolve = |kvm: &std::path::Path| {
        let options = Options { kvm: Some(kvm.to_owned()), ..Options::default() };
        let builder = EngineBuilder::new(engine.clone());
        let machine = spec.machines().first().unwrap();
        store.resolve_jail(&spec, machine, &builder, &options, &mut |_| {}).unwrap()
    };
    // Whatever must be built is there afterwards.
    let emulated = resolve(&folder.join("nothing"));
    let began = Instant::now();
    let found = resolve(&device);
    let took = began.elapsed();
    let remembered = std::fs::read_to_string(store.path().join("host.json")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found.accelerator, Accelerator::Emulation);
    assert_eq!(found.layers, emulated.layers, "the template is the same");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let why = remembered.lines().find(|line| line.contains(&*device.to_string_lossy())).unwrap();
    assert!(why.contains("no guest starts with") && why.contains("kvm"), "{why}");
}
