use super::rust::{code_of, sources};
use super::tree::Tree;
use super::{Finding, check, code};

/// What is found, as `path:line what`.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    lines(&check(&Tree::of(files), &[]))
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|f| format!("{}:{} {}", f.path, f.line, f.what)).collect()
}

fn manifest(name: &str, dependencies: &str) -> String {
    format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}")
}

#[test]
fn code_is_what_is_neither_comment_nor_literal() {
    let text = r###"let a = "unsafe \" unsafe"; // unsafe
/* unsafe /* unsafe */ unsafe */ let b = r#"unsafe " unsafe"#;
let c = ('"', '\'', b'"', 'x'); let d: &'static str = br"unsafe"; let r = 1; fn f<'a>() {} // '"###;
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("unsafe"), "{code}");
    for kept in ["let a =", "let b =", "let c =", "&'static str", "let r = 1;", "fn f<'a>() {}"] {
        assert!(code.contains(kept), "{kept} in {code}");
    }
}

#[test]
fn literals_of_any_language_keep_offsets() {
    let text = "let a = 'ó'; let b = \"вода 水\"; /* ü */ unsafe";
    let code = code_of(text);
    assert_eq!(code.find("unsafe"), text.find("unsafe"));
}

#[test]
fn unsafe_stands_in_one_crate() {
    let text = "// unsafe is fine here\nfn f() { unsafe { g() } }\n";
    assert_eq!(
        found(&[("crates/testbed/src/a.rs", text), ("crates/testbed-sys/src/a.rs", text)]),
        ["crates/testbed/src/a.rs:2 `unsafe` outside testbed-sys"]
    );
    assert_eq!(
        found(&[("crates/testbed/src/a.rs", "#[expect(unsafe_code, reason = \"fast\")]\nfn f() {}")]),
        ["crates/testbed/src/a.rs:1 `unsafe_code` outside testbed-sys"]
    );
    assert!(found(&[("crates/testbed/src/a.rs", "fn unsafe_looking() {}")]).is_empty());
}

#[test]
fn libraries_are_quiet_and_their_tests_need_not_be() {
    let loud = "fn f() {\n    println!(\"x\");\n    std::process::exit(1)\n}\n";
    let paths = ["crates/testbed/src/a.rs", "crates/testbed/tests/a.rs", "crates/testbed-cli/src/main.rs"];
    assert_eq!(
        found(&paths.map(|path| (path, loud))),
        [
            "crates/testbed/src/a.rs:2 a library calls `println!`",
            "crates/testbed/src/a.rs:3 a library calls `process::exit`"
        ]
    );
    assert_eq!(
        found(&[("crates/testbed/src/a.rs", "fn f() { std::thread::sleep(SECOND) }")]),
        ["crates/testbed/src/a.rs:1 a library calls `thread::sleep`"]
    );
    let in_tests = format!("fn g() {{}}\n#[cfg(test)]\nmod tests {{\n    {loud}\n}}\n");
    assert!(found(&[("crates/testbed/src/a.rs", &in_tests)]).is_empty());
    let behind = "#[cfg(test)]\nmod tests {\n    fn g() {}\n}\nfn h() { std::env::var(\"HOME\"); }\n";
    assert_eq!(
        found(&[("crates/testbed/src/a.rs", behind)]),
        ["crates/testbed/src/a.rs:5 a library calls `env::var`"]
    );
}

#[test]
fn test_modules_in_files_of_their_own_are_tests() {
    let loud = "fn f() { eprintln!() }";
    let tree = [
        ("crates/testbed/src/a.rs", "#[cfg(test)]\npub(crate) mod harness;\nmod real;\n"),
        ("crates/testbed/src/a/harness.rs", loud),
        ("crates/testbed/src/a/harness/deep.rs", loud),
        ("crates/testbed/src/a/real.rs", loud),
        ("crates/testbed/src/b/mod.rs", "#[cfg(test)]\nmod odd;\n"),
        ("crates/testbed/src/b/odd.rs", loud),
    ];
    assert_eq!(found(&tree), ["crates/testbed/src/a/real.rs:1 a library calls `eprintln!`"]);
    let with_code = |s: &super::rust::Source<'_>| !s.product.trim().is_empty();
    assert_eq!(sources(&Tree::of(&tree)).iter().filter(|s| with_code(s)).count(), 2);
}

#[test]
fn an_exception_holds_for_its_place_and_not_longer_than_needed() {
    let tree = Tree::of(&[("crates/testbed/src/a.rs", "fn f() { std::env::var_os(\"X\"); }")]);
    let judged = |exceptions: &[code::Exception]| {
        let mut findings = Vec::new();
        code::check(&tree, exceptions, &mut findings);
        lines(&findings)
    };
    assert_eq!(judged(&[]), ["crates/testbed/src/a.rs:1 a library calls `env::var_os`"]);
    assert!(judged(&[("crates/testbed/src/a.rs", "env::var_os", "documented")]).is_empty());
    assert_eq!(
        judged(&[
            ("crates/testbed/src/a.rs", "env::var_os", "documented"),
            ("crates/testbed/src/b.rs", "env::vars", "gone")
        ]),
        ["crates/testbed/src/b.rs:0 no longer calls `env::vars` (gone)"]
    );
}

#[test]
fn what_is_unfinished_is_found_in_tests_too() {
    let text = "#[allow(dead_code)]\nfn f() { todo!() }\n#[ignore = \"slow\"]\nfn g() { unimplemented!() }\n";
    assert_eq!(found(&[("crates/testbed/tests/a.rs", text)]).len(), 4);
    assert!(
        found(&[("crates/testbed/src/a.rs", "// todo!\n#[expect(dead_code, reason = \"x\")]\nfn f() {}")])
            .is_empty()
    );
}

#[test]
fn long_files_are_warnings() {
    let long = "fn f() {}\n".repeat(701);
    let findings = check(&Tree::of(&[("xtask/src/a.rs", &long), ("xtask/src/b.rs", &long[10..])]), &[]);
    assert_eq!(lines(&findings), ["xtask/src/a.rs:0 701 lines"]);
    assert!(findings[0].is_warning);
}

#[test]
fn crates_depend_one_way() {
    let upwards = manifest("testbed-sys", "testbed = { path = \"../testbed\" }\n");
    let library = manifest("testbed", "testbed-sys.workspace = true\n");
    let tree = [("crates/testbed-sys/Cargo.toml", &*upwards), ("crates/testbed/Cargo.toml", &*library)];
    assert_eq!(found(&tree), ["crates/testbed-sys/Cargo.toml:0 `testbed-sys` may not use `testbed`"]);
    let unknown = manifest("testbed-extra", "");
    assert_eq!(
        found(&[("crates/extra/Cargo.toml", &unknown)]),
        ["crates/extra/Cargo.toml:0 `testbed-extra` has no place in the order of crates"]
    );
    assert_eq!(found(&[("crates/broken/Cargo.toml", "[package")]).len(), 1);
}

#[test]
fn what_forks_has_no_runtime() {
    let agent = "[package]\nname = \"testbed-agent\"\n[target.'cfg(unix)'.dependencies]\nrt = { package = \"tokio\", version = \"1\" }\n";
    let docs = ("docs/dependencies.md", "| `tokio` | waits |\n");
    assert_eq!(
        found(&[("crates/testbed-agent/Cargo.toml", agent), docs]),
        ["crates/testbed-agent/Cargo.toml:0 `testbed-agent` uses the runtime `tokio`"]
    );
    let library = manifest("testbed", "tokio = \"1\"\n");
    assert!(found(&[("crates/testbed/Cargo.toml", &library), docs]).is_empty());
}

#[test]
fn dependencies_and_reasons_are_the_same_set() {
    let root = "[workspace.dependencies]\nserde = \"1\"\n[workspace]\nmembers = []\n";
    assert!(found(&[("Cargo.toml", root)]).len() == 1, "a table written twice is no manifest");
    let root = "[workspace]\nmembers = []\n[workspace.dependencies]\nserde = \"1\"\nlibc = \"0.2\"\n";
    let docs = "| crate | reason |\n|---|---|\n| `serde` | messages |\n| `rand` | luck |\n";
    assert_eq!(
        found(&[("Cargo.toml", root), ("docs/dependencies.md", docs)]),
        [
            "Cargo.toml:0 no reason for `libc` in docs/dependencies.md",
            "docs/dependencies.md:4 nothing depends on `rand`"
        ]
    );
}

#[test]
fn links_lead_to_files_and_headings() {
    let page = "\
# The page
[itself](#the-page) [gone](#nowhere) [site](https://example.org/x)
[other](../guide/a.md#b-and-c) [missing](missing.md) [bad](../guide/a.md#d) [folder](../guide)
`[code](not-a-link.md)` and
```
[code](not-a-link.md)
```
[outside](../../../x)
";
    let tree = [("docs/reference/page.md", page), ("docs/guide/a.md", "## `b`, and *c*\n")];
    assert_eq!(
        found(&tree),
        [
            "docs/reference/page.md:2 docs/reference/page.md has no heading `#nowhere`",
            "docs/reference/page.md:3 `missing.md` leads nowhere",
            "docs/reference/page.md:3 docs/guide/a.md has no heading `#d`",
            "docs/reference/page.md:8 `../../../x` leads nowhere"
        ]
    );
}

#[test]
fn examples_are_run_by_tests() {
    let tests = "run(\"examples/vpn\"); run(\"examples/gateway-two\");";
    let tree = [
        ("examples/vpn/testbed.toml", ""),
        ("examples/gateway/testbed.toml", ""),
        ("examples/README.md", ""),
        ("crates/testbed-cli/tests/it/examples.rs", tests),
    ];
    assert_eq!(found(&tree), ["examples/gateway:0 no test runs it"]);
}

#[test]
fn no_file_is_tied_to_one_place() {
    let registry = ["see https://py", "pi.org/simple"].concat();
    let mut tree = Tree::of(&[
        ("docs/a.md", &registry),
        ("Cargo.lock", &registry),
        ("docs/b.md", "built in /srv/build/testbed/target"),
        ("docs/c.md", "mounted at /srv/build/testbeds"),
    ]);
    tree.local_paths.push("/srv/build/testbed".into());
    let expected = ["docs/a.md:1 names `pypi", "docs/b.md:1 names `/srv/build/testbed`"];
    let found = lines(&check(&tree, &[]));
    assert!(found.len() == 2 && found.iter().zip(expected).all(|(f, e)| f.starts_with(e)), "{found:?}");
}

#[test]
fn a_finding_says_what_holds_and_what_to_do() {
    let findings = check(&Tree::of(&[("crates/testbed/src/a.rs", "fn f() { todo!() }")]), &[]);
    let text = findings[0].to_string();
    assert!(text.starts_with("error: crates/testbed/src/a.rs:1: `todo!`\n  ARCHITECTURE.md: 9. "), "{text}");
    assert!(text.contains("\n  to do: "), "{text}");
}

/// The rules name invariants as ARCHITECTURE.md counts them.
#[test]
fn every_rule_stands_in_the_architecture() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut named = 0;
    for file in ["code", "crates", "docs"] {
        let path = root.join(format!("xtask/src/tidy/{file}.rs"));
        let source = std::fs::read_to_string(path).unwrap();
        for (at, marker) in source.match_indices("invariant: \"") {
            let number = source[at + marker.len()..].split('.').next().unwrap();
            assert!(page.contains(&format!("\n{number}. **")), "no invariant {number} in ARCHITECTURE.md");
            named += 1;
        }
    }
    assert!(named >= 9);
}

#[test]
fn the_tree_is_what_the_repository_holds() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = Tree::read(&root).unwrap();
    assert!(
        tree.has("ARCHITECTURE.md") && tree.has("crates/testbed-sys/src") && !tree.has("crates/testbed-sy")
    );
    assert!(tree.files().all(|(path, _)| !path.starts_with("target/") && !path.starts_with(".git/")));
    assert!(tree.text("fuzz/seeds/frames/hello").is_some() && tree.text("no/such/file").is_none());
}
