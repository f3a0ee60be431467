//! A file: any text gives a testbed or errors, both can be shown, and a testbed can be planned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use testbed::plan::{Host, Plan};
use testbed::spec::{FixedFiles, check};

fuzz_target!(|text: &str| {
    let files = FixedFiles::new("/").file("/a").executable("/tests/one");
    let (testbed, problems) = check(text, "testbed.toml", &files);
    assert_eq!(testbed.is_none(), problems.has_errors());
    assert_eq!(problems.to_string().is_empty(), problems.is_empty());
    for problem in problems.iter() {
        if let Some(span) = problem.place().span() {
            assert!(text.len() > 1 << 20 || text.get(span).is_some(), "a place between characters");
        }
    }
    if let Some(testbed) = testbed {
        assert!(!Plan::new(&testbed, &Host::default()).to_string().is_empty());
    }
});
