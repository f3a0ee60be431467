//! The generated reference is the one in the repository.

use std::path::Path;
use testbed::spec::{check, reference, schema};

/// Compares a generated page with the one in `docs/reference`, which is rewritten if `TESTBED_BLESS` is set.
fn is_current(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("TESTBED_BLESS").is_some() {
        std::fs::write(&path, generated).expect("the page can be written");
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == generated,
        "docs/reference/{name} is stale: run TESTBED_BLESS=1 cargo test -p testbed --test spec"
    );
}

#[test]
fn the_page_is_current() {
    is_current("file.md", &reference());
}

#[test]
fn the_schema_is_current() {
    is_current("testbed.schema.json", &schema());
}

#[test]
fn the_schema_refers_only_to_what_it_defines() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let mut open = vec![&schema];
    let mut references = 0;
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Object(object) => {
                if let Some(target) = object.get("$ref") {
                    let pointer = target.as_str().unwrap().trim_start_matches('#');
                    assert!(schema.pointer(pointer).is_some_and(serde_json::Value::is_object), "{target}");
                    references += 1;
                }
                open.extend(object.values());
            }
            serde_json::Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(references > 10);
}

#[test]
fn the_example_of_the_page_is_right() {
    let page = reference();
    let (_, example) = page.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    assert_eq!(super::testbed(example).machines().len(), 3);
}

/// The values of every `default` in the page are ones that the file takes.
#[test]
fn what_the_page_calls_a_default_can_be_written() {
    let text = r#"
        [networks]
        lan = { subnet = "10.0.0.0/24", raw = false, uplink = false, mtu = 1500 }
        [defaults.deadlines]
        start = "10s"
        ready = "30s"
        test = "60s"
        layer-step = "15m"
        stop = "5s"
        [machines.a]
        image = "host"
        router = false
        control = false
        count = 1
        [[tests]]
        name = "x"
        on = "host"
        run = "true"
        fresh = "testbed"
        expect = "success"
    "#;
    let (_, problems) = check(text, "testbed.toml", &super::files());
    assert!(problems.is_empty(), "{problems}");
}
