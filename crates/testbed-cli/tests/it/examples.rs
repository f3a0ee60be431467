//! The examples, run as their readers do.

use crate::call::Folder;
use std::path::Path;

#[test]
fn openvpn_passes_all_its_tests() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/openvpn");
    let called = Folder::empty().call(&["run", example.to_str().unwrap()]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.verdict().starts_with("4 passed, 2 failed as expected in "), "{}", called.text());
}

/// On one kernel that is not the host's, from where the tunnel is up.
#[test]
fn openvpn_passes_them_in_a_capsule_and_more() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/openvpn/capsule");
    let called = Folder::empty().call(&["run", example.to_str().unwrap()]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.verdict().starts_with("5 passed, 2 failed as expected in "), "{}", called.text());
}

#[test]
fn the_gateways_tests_run_on_the_gateway() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gateway");
    let called = Folder::empty().call(&["run", example.to_str().unwrap()]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.verdict().starts_with("8 passed in"), "{}", called.text());
}

/// On a host without 802.1Q, on kernels of their own.
#[test]
fn the_gateways_vlans_are_tested_on_any_host() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gateway/vlans");
    let called = Folder::empty().call(&["run", example.to_str().unwrap()]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.verdict().starts_with("3 passed in"), "{}", called.text());
}
