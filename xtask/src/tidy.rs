//! What ARCHITECTURE.md promises and a compiler does not check: which crate may use which, that files named in pages
//! exist, that each file says what it is, and what is absent on purpose. Style beyond that is rustfmt's and clippy's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Who may use whom, among our own crates: (crate, those it may depend on, those its tests may use besides).
/// An edge that is not here is a change of the architecture: it needs a page in docs/decisions/.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("mammoth-archive", &[], &[]),
    ("mammoth-accounts", &[], &[]),
    ("mammoth-wire", &["mammoth-archive"], &[]),
    ("mammoth-store-embedded", &["mammoth-archive", "mammoth-accounts"], &["mammoth-store-contract"]),
    ("mammoth-store-postgres", &["mammoth-archive", "mammoth-accounts"], &["mammoth-store-contract"]),
    ("mammoth-store-contract", &["mammoth-archive"], &[]),
    (
        "mammoth-server",
        &["mammoth-wire", "mammoth-archive", "mammoth-accounts"],
        &["mammoth-store-contract", "mammoth-store-embedded"],
    ),
    ("mammoth-prosody", &["mammoth-archive", "mammoth-store-embedded"], &[]),
    (
        "mammoth",
        &[
            "mammoth-server",
            "mammoth-wire",
            "mammoth-archive",
            "mammoth-accounts",
            "mammoth-store-embedded",
            "mammoth-store-postgres",
        ],
        &["mammoth-bench"],
    ),
    // A load generator for any server: it knows the protocol, and nothing of ours.
    ("mammoth-bench", &[], &[]),
    // Benchmarks of our own parts may measure any of them.
    (
        "mammoth-benches",
        &["mammoth-archive", "mammoth-accounts", "mammoth-wire", "mammoth-store-embedded", "mammoth-server"],
        &[],
    ),
    ("xtask", &[], &[]),
];

/// What a crate of floor 0 is made of: words and arithmetic. Nothing here does I/O or knows a runtime.
const FLOOR_0: &[(&str, &[&str])] = &[
    (
        "mammoth-archive",
        &[
            "aes",
            "async-trait",
            "bytes",
            "cipher",
            "data-encoding",
            "futures-util",
            "hmac",
            "jid",
            "sha2",
            "thiserror",
        ],
    ),
    (
        "mammoth-accounts",
        &[
            "async-trait",
            "data-encoding",
            "hmac",
            "jid",
            "pbkdf2",
            "sha1",
            "sha2",
            "stringprep",
            "subtle",
            "thiserror",
        ],
    ),
];

/// What may not occur in the source of floor 0, tests aside.
const ABSENT_FROM_FLOOR_0: &[&str] = &[
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "tokio",
    "rxml",
];

/// The only crate that may contain `unsafe`: it speaks to C.
const UNSAFE_ALLOWED_IN: &str = "crates/prosody/";

/// The page that gives a reason for each dependency.
const DEPENDENCIES_PAGE: &str = "docs/decisions/0001-dependencies.md";

/// The pages whose mentions of files must be true.
const PAGES: &[&str] = &["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"];

/// Everything that is not tidy, one line each: `path: what, and what to do`.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let packages = packages(root)?;
    complaints.extend(edges(&packages));
    complaints.extend(floor_0_dependencies(&packages));
    let reasons = fs::read_to_string(root.join(DEPENDENCIES_PAGE)).unwrap_or_default();
    complaints.extend(unexplained(&packages, &reasons));
    for page in PAGES {
        match fs::read_to_string(root.join(page)) {
            Ok(text) => complaints.extend(named_files(page, &text, |path| root.join(path).exists())),
            Err(_) => complaints.push(format!("{page}: is missing")),
        }
    }
    for (path, text) in sources(root)? {
        complaints.extend(header(&path, &text));
        complaints.extend(unsafe_code(&path, &text));
        complaints.extend(floor_0_source(&path, &text));
    }
    complaints.sort();
    Ok(complaints)
}

/// One of our crates, as cargo sees it.
struct Package {
    name: String,
    /// Path to its manifest, from the root.
    manifest: String,
    normal: BTreeSet<String>,
    dev: BTreeSet<String>,
}

fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let output = crate::cargo(root)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let list =
        metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    Ok(list.iter().map(|package| read_package(root, package)).collect())
}

fn read_package(root: &Path, package: &Value) -> Package {
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let manifest = text(package, "manifest_path");
    let manifest =
        Path::new(&manifest).strip_prefix(root).map_or(manifest.clone(), |path| path.display().to_string());
    let mut found =
        Package { name: text(package, "name"), manifest, normal: BTreeSet::new(), dev: BTreeSet::new() };
    for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
        let into = if text(dependency, "kind") == "dev" { &mut found.dev } else { &mut found.normal };
        into.insert(text(dependency, "name"));
    }
    found
}

fn edges(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut complaints = Vec::new();
    for Package { name, manifest, normal, dev } in packages {
        let Some((_, allowed, in_tests)) = EDGES.iter().find(|(from, ..)| from == name) else {
            complaints
                .push(format!("{manifest}: {name} has no floor; give it its edges in xtask/src/tidy.rs"));
            continue;
        };
        for to in normal.iter().filter(|to| ours.contains(to.as_str())) {
            if !allowed.contains(&to.as_str()) {
                complaints.push(format!("{manifest}: {name} may not use {to}; {}", may_use(allowed)));
            }
        }
        for to in dev.iter().filter(|to| ours.contains(to.as_str()) && *to != name) {
            if !allowed.contains(&to.as_str()) && !in_tests.contains(&to.as_str()) {
                complaints
                    .push(format!("{manifest}: the tests of {name} may not use {to}; {}", may_use(in_tests)));
            }
        }
    }
    complaints
}

fn may_use(allowed: &[&str]) -> String {
    match allowed {
        [] => "of our own crates it may use none".to_string(),
        _ => format!("it may use {}", allowed.join(", ")),
    }
}

fn floor_0_dependencies(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, allowed) in FLOOR_0 {
        for package in packages.iter().filter(|package| package.name == *name) {
            for to in package.normal.iter().filter(|to| !allowed.contains(&to.as_str())) {
                complaints.push(format!(
                    "{}: {name} is on floor 0 and may not use {to}; allowed: {}",
                    package.manifest,
                    allowed.join(", ")
                ));
            }
        }
    }
    complaints
}

/// Dependencies from elsewhere for which the page of reasons has no line.
fn unexplained(packages: &[Package], reasons: &str) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let used: BTreeSet<&String> =
        packages.iter().flat_map(|package| package.normal.iter().chain(&package.dev)).collect();
    used.into_iter()
        .filter(|name| !ours.contains(name.as_str()) && !reasons.contains(&format!("`{name}`")))
        .map(|name| {
            format!("{DEPENDENCIES_PAGE}: says nothing of `{name}`; add a line that says why it is there")
        })
        .collect()
}

/// Paths of ours that a page names, in code or in a link, and that are not there.
fn named_files(page: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let roots = ["crates/", "docs/", "xtask/", "benches/", "fuzz/", ".ci/", ".cargo/"];
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || "._-/*".contains(c)));
        for word in words {
            let path = word.trim_end_matches(['.', '*']).trim_end_matches('/');
            if roots.iter().any(|root| word.starts_with(root)) && !exists(path) {
                complaints.push(format!("{page}:{}: names {path}, which does not exist", number + 1));
            }
        }
    }
    complaints
}

/// Every Rust file of ours: (path from the root, text).
fn sources(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "xtask", "benches", "fuzz"].iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let relative = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                found.insert(relative, text);
            }
        }
    }
    ensure!(!found.is_empty(), "found no source files under {}", root.display());
    Ok(found)
}

fn header(path: &str, text: &str) -> Option<String> {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"))?;
    if first.starts_with("//! ") {
        return None;
    }
    Some(format!(
        "{path}:1: begins without `//!`; say in two or three sentences what it is, and what it leaves to others"
    ))
}

fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    if path.starts_with(UNSAFE_ALLOWED_IN) {
        return Vec::new();
    }
    code_lines(text)
        .filter(|(_, line)| words(line).any(|word| word == "unsafe"))
        .map(|(number, _)| format!("{path}:{number}: `unsafe` belongs in {UNSAFE_ALLOWED_IN} only"))
        .collect()
}

fn floor_0_source(path: &str, text: &str) -> Vec<String> {
    let on_floor_0 = path.starts_with("crates/archive/src/") || path.starts_with("crates/accounts/src/");
    if !on_floor_0 || is_test_file(path) {
        return Vec::new();
    }
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut complaints = Vec::new();
    for (number, line) in code_lines(product) {
        for absent in ABSENT_FROM_FLOOR_0 {
            let found = if absent.contains("::") {
                line.contains(absent)
            } else {
                words(line).any(|word| word == *absent)
            };
            if found {
                complaints.push(format!(
                    "{path}:{number}: `{absent}` on floor 0, which knows no I/O, clock, XML or runtime; pass in what it needs"
                ));
            }
        }
    }
    complaints
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.ends_with("_test.rs") || path.contains("/tests/")
}

/// Lines without comments and text in quotes, numbered from 1. Good enough to look for words; not a parser.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let code = if code.contains('"') { code.split('"').next().unwrap_or_default() } else { code };
        (number + 1, code)
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, normal: &[&str], dev: &[&str]) -> Package {
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Package { name: name.into(), manifest: "m".into(), normal: set(normal), dev: set(dev) }
    }

    #[test]
    fn an_edge_that_is_not_drawn_is_found() {
        let archive = || package("mammoth-archive", &["jid"], &[]);
        let server = || package("mammoth-server", &[], &[]);
        let wire = package("mammoth-wire", &["mammoth-archive", "rxml"], &[]);
        assert_eq!(edges(&[archive(), wire, server()]), [""; 0]);
        let wire = package("mammoth-wire", &["mammoth-server"], &[]);
        assert_eq!(
            edges(&[wire, server()]),
            ["m: mammoth-wire may not use mammoth-server; it may use mammoth-archive"]
        );
        let archive = package("mammoth-archive", &[], &["mammoth-server"]);
        assert_eq!(edges(&[archive, server()]).len(), 1, "tests make edges too");
        assert_eq!(edges(&[package("mammoth-common", &[], &[])]).len(), 1, "every crate has a floor");
    }

    #[test]
    fn the_allowed_edges_have_no_cycle() {
        let mut settled: BTreeSet<&str> = BTreeSet::new();
        while settled.len() < EDGES.len() {
            let before = settled.len();
            for (name, uses, _) in EDGES {
                if uses.iter().all(|used| settled.contains(used)) {
                    settled.insert(name);
                }
            }
            assert!(settled.len() > before, "a cycle among those not in {settled:?}");
        }
    }

    #[test]
    fn floor_0_has_a_closed_list_of_dependencies() {
        let complaints = floor_0_dependencies(&[package("mammoth-archive", &["jid", "tokio"], &["tokio"])]);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("may not use tokio"), "{complaints:?}");
    }

    #[test]
    fn each_dependency_has_its_reason() {
        let packages =
            [package("mammoth-archive", &["jid"], &["proptest"]), package("x", &["mammoth-archive"], &[])];
        assert_eq!(unexplained(&packages, "| `jid` | … |\n| `proptest` | … |"), [""; 0]);
        let complaints = unexplained(&packages, "| `jid` | why |");
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("says nothing of `proptest`"), "{complaints:?}");
    }

    #[test]
    fn pages_name_what_exists() {
        let text = "See `crates/a/src/lib.rs`,\n[b](docs/b.md), crates/c/src/*.rs and docs/decisions/.";
        let there = |path: &str| path == "crates/a/src/lib.rs" || path == "docs/decisions";
        assert_eq!(
            named_files("A.md", text, there),
            [
                "A.md:2: names docs/b.md, which does not exist",
                "A.md:2: names crates/c/src/*.rs, which does not exist"
            ]
        );
    }

    #[test]
    fn sources_say_what_they_are_and_keep_their_promises() {
        assert!(header("a.rs", "//! A.\n").is_none());
        assert!(header("a.rs", "\n#![allow(x)]\n//! A.\n").is_none());
        assert!(header("a.rs", "use x;\n//! A.\n").is_some());

        let code = "fn a() { unsafe { b() } }\n// unsafe\nlet c = \"unsafe\";\nunsafe_code();\n";
        assert_eq!(unsafe_code("crates/wire/src/a.rs", code).len(), 1);
        assert_eq!(unsafe_code("crates/prosody/src/a.rs", code), [""; 0]);

        let clock = "let now = SystemTime::now(); // SystemTime\n#[cfg(test)]\nuse tokio::test;\n";
        assert_eq!(floor_0_source("crates/archive/src/a.rs", clock).len(), 1);
        assert_eq!(floor_0_source("crates/server/src/a.rs", clock), [""; 0]);
        assert_eq!(floor_0_source("crates/accounts/src/a.rs", "use std::fs::File;\n").len(), 1);
    }
}
