//! What the host's kernel can do, of what a testbed needs.

use super::Host;
use crate::spec::{Need, Testbed};
use std::fs;
use std::path::Path;

/// Looks at this host for what a testbed's machines and tests need. What nobody needs is not looked for.
pub fn host_for(testbed: &Testbed) -> Host {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let machines = testbed.machines().iter().flat_map(|machine| machine.needs());
    let tests = testbed.tests().iter().flat_map(|test| test.needs());
    let mut modules = Modules::new(&kernel);
    let capabilities = machines.chain(tests).filter(|need| modules.can(need));
    let capabilities = capabilities.map(|need| need.as_str().to_owned()).collect();
    Host { kernel, capabilities, own_kernels: cfg!(target_arch = "x86_64") }
}

/// The modules of the running kernel; its lists are read when they are first asked for.
struct Modules {
    folder: std::path::PathBuf,
    lists: Option<String>,
    symbols: Option<String>,
}

impl Modules {
    fn new(kernel: &str) -> Modules {
        Modules { folder: Path::new("/lib/modules").join(kernel), lists: None, symbols: None }
    }

    fn can(&mut self, need: &Need) -> bool {
        self.has_module(need.module())
            || need.ability().is_some_and(|ability| self.has_symbol(ability.symbol))
    }

    /// Loaded, built in, or there to be loaded. The kernel takes `-` and `_` for the same here.
    fn has_module(&mut self, module: &str) -> bool {
        let module = module.replace('-', "_");
        if Path::new("/sys/module").join(&module).exists() {
            return true;
        }
        let folder = &self.folder;
        let lists = self.lists.get_or_insert_with(|| {
            let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
            read("modules.builtin") + &read("modules.dep")
        });
        lists.lines().filter_map(module_of).any(|name| name.replace('-', "_") == module)
    }

    fn has_symbol(&mut self, symbol: &str) -> bool {
        let symbols =
            self.symbols.get_or_insert_with(|| fs::read_to_string("/proc/kallsyms").unwrap_or_default());
        symbols.lines().any(|line| line.split_ascii_whitespace().nth(2) == Some(symbol))
    }
}

/// The module that a line of `modules.dep` or `modules.builtin` (modules.dep(5)) is about:
/// `kernel/net/8021q/8021q.ko.xz: …`.
fn module_of(line: &str) -> Option<&str> {
    let path = line.split(':').next()?;
    let file = path.rsplit('/').next()?;
    file.split_once(".ko").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_lists() {
        assert_eq!(module_of("kernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz"), Some("8021q"));
        assert_eq!(module_of("kernel/drivers/net/tun.ko"), Some("tun"));
        assert_eq!(module_of(""), None);
    }

    #[test]
    fn what_no_kernel_has() {
        assert!(!Modules::new("0.0.0").has_module("no_such_module_of_ours"));
    }
}
