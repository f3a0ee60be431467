//! The invariants of ARCHITECTURE.md, as far as a program can see them in the text of the repository.

mod code;
mod crates;
mod docs;
mod rust;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use tree::Tree;

/// A rule: what holds, and what to do where it does not.
struct Rule {
    /// The words of ARCHITECTURE.md that it stands for.
    invariant: &'static str,
    advice: &'static str,
}

/// Something that is not as it must be.
struct Finding {
    rule: &'static Rule,
    path: String,
    /// 0 for the file as a whole.
    line: usize,
    what: String,
    /// It is told, and nothing fails.
    is_warning: bool,
}

impl Finding {
    fn new(rule: &'static Rule, path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { rule, path: path.to_owned(), line, what: what.into(), is_warning: false }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_warning { "warning" } else { "error" };
        write!(f, "{kind}: {}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        writeln!(f, ": {}", self.what)?;
        writeln!(f, "  ARCHITECTURE.md: {}", self.rule.invariant)?;
        writeln!(f, "  to do: {}", self.rule.advice)
    }
}

/// Checks the repository, prints what is wrong, and is true if nothing is.
pub(crate) fn run(root: &Path) -> bool {
    let tree = match Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("cannot read {}: {error}", root.display());
            return false;
        }
    };
    let findings = check(&tree, code::EXCEPTIONS);
    for finding in &findings {
        eprint!("{finding}");
    }
    let errors = findings.iter().filter(|f| !f.is_warning).count();
    let warnings = findings.len() - errors;
    println!("tidy: {} files, {errors} errors, {warnings} warnings", tree.files().count());
    errors == 0
}

fn check(tree: &Tree, exceptions: &[code::Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    code::check(tree, exceptions, &mut findings);
    crates::check(tree, &mut findings);
    docs::check(tree, &mut findings);
    findings.sort_by(|a, b| (a.is_warning, &a.path, a.line).cmp(&(b.is_warning, &b.path, b.line)));
    findings
}
