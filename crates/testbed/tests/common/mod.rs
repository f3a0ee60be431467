//! What several test programs share.

use std::sync::Arc;
use testbed::spec;

/// The testbed of a file that has no mistakes.
pub(crate) fn checked(text: &str) -> Arc<spec::Testbed> {
    let (testbed, problems) = spec::check(text, "testbed.toml", &spec::FixedFiles::new("/"));
    Arc::new(testbed.unwrap_or_else(|| panic!("{problems}")))
}
