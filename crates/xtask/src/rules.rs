//! The dependency rules: which crate may depend on which, checked against `cargo metadata`.
//!
//! ARCHITECTURE.md shows the same table for people; [`documented`] holds the two together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::step;

/// Every workspace member and the members that it may name in its manifest. This includes dev-dependencies, except those of
/// [`FOR_TESTS`] and [`FOR_TESTS_OF`].
const MEMBERS: &[(&str, &[&str])] = &[
    ("sulcus-volume", &[]),
    ("sulcus-dicom", &["sulcus-volume"]),
    ("sulcus-io", &["sulcus-dicom", "sulcus-volume"]),
    ("sulcus-model", &["sulcus-volume"]),
    ("sulcus-metrics", &["sulcus-model", "sulcus-volume"]),
    ("sulcus-pipeline", &["sulcus-metrics", "sulcus-model", "sulcus-volume"]),
    ("sulcus-onnx", &["sulcus-model", "sulcus-volume"]),
    ("sulcus-kernels", &[]),
    ("sulcus-dataset", &["sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-volume"]),
    ("sulcus-plan", &["sulcus-dataset", "sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-volume"]),
    (
        "sulcus-train",
        &[
            "sulcus-dataset",
            "sulcus-io",
            "sulcus-kernels",
            "sulcus-metrics",
            "sulcus-model",
            "sulcus-onnx",
            "sulcus-pipeline",
            "sulcus-plan",
            "sulcus-volume",
        ],
    ),
    ("sulcus-runtime", &["sulcus-io", "sulcus-model", "sulcus-onnx", "sulcus-pipeline", "sulcus-volume"]),
    ("sulcus-capi", &["sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-runtime", "sulcus-volume"]),
    ("sulcus-python", &["sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-runtime", "sulcus-volume"]),
    ("sulcus-serve", &["sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-runtime", "sulcus-volume"]),
    (
        "sulcus-cli",
        &[
            "sulcus-dataset",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-metrics",
            "sulcus-model",
            "sulcus-onnx",
            "sulcus-pipeline",
            "sulcus-plan",
            "sulcus-runtime",
            "sulcus-serve",
            "sulcus-train",
            "sulcus-volume",
        ],
    ),
    ("sulcus-viewer", &["sulcus-io", "sulcus-metrics", "sulcus-volume"]),
    (
        "sulcus-examples",
        &[
            "sulcus-dataset",
            "sulcus-io",
            "sulcus-metrics",
            "sulcus-model",
            "sulcus-pipeline",
            "sulcus-plan",
            "sulcus-runtime",
            "sulcus-train",
            "sulcus-volume",
        ],
    ),
    (
        "embed-burn",
        &["sulcus-io", "sulcus-metrics", "sulcus-model", "sulcus-onnx", "sulcus-pipeline", "sulcus-volume"],
    ),
    ("sulcus-testing", &["sulcus-dicom", "sulcus-harness", "sulcus-io", "sulcus-model", "sulcus-volume"]),
    (
        "sulcus-tests",
        &[
            "sulcus-dataset",
            "sulcus-dicom",
            "sulcus-harness",
            "sulcus-io",
            "sulcus-metrics",
            "sulcus-model",
            "sulcus-onnx",
            "sulcus-pipeline",
            "sulcus-plan",
            "sulcus-runtime",
            "sulcus-train",
            "sulcus-volume",
        ],
    ),
    ("sulcus-harness", &["sulcus-harness-macros"]),
    ("sulcus-harness-macros", &[]),
    ("xtask", &[]),
];

/// Members that the tests of every other one may use, as dev-dependencies.
const FOR_TESTS: &[&str] = &["sulcus-harness", "sulcus-testing"];

/// Dev-dependencies that would be a circle of crates if they were more: the tests of DICOM compare with what files give.
const FOR_TESTS_OF: &[(&str, &str)] = &[("sulcus-dicom", "sulcus-io")];

/// A family of crates from outside that is confined to some members.
struct Confined {
    what: &'static str,
    matches: fn(&str) -> bool,
    /// Who may name it in its manifest.
    named_by: &'static [&'static str],
    /// Whose dependencies may not reach it, however indirectly.
    unreachable_from: &'static [&'static str],
}

const CONFINED: &[Confined] = &[
    Confined {
        what: "Burn",
        matches: |name| name == "burn" || name.starts_with("burn-") || name.starts_with("cubecl"),
        named_by: &["sulcus-train", "embed-burn"],
        unreachable_from: &[
            "sulcus-volume",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-model",
            "sulcus-metrics",
            "sulcus-pipeline",
            "sulcus-onnx",
            "sulcus-dataset",
            "sulcus-plan",
            "sulcus-runtime",
            "sulcus-capi",
            "sulcus-python",
            "sulcus-viewer",
            "xtask",
        ],
    },
    Confined {
        what: "an inference engine (ort, tract)",
        matches: |name| name == "ort" || name.starts_with("ort-") || name.starts_with("tract-"),
        named_by: &["sulcus-runtime"],
        unreachable_from: &[
            "sulcus-volume",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-model",
            "sulcus-metrics",
            "sulcus-pipeline",
            "sulcus-onnx",
            "sulcus-dataset",
            "sulcus-plan",
            "sulcus-train",
            "sulcus-viewer",
            "embed-burn",
            "xtask",
        ],
    },
    Confined {
        what: "threads (rayon)",
        matches: |name| name == "rayon",
        named_by: LIBRARIES_WITH_THREADS,
        // The viewer has no threads either, but in the metadata of cargo the features of `sulcus-io` are those of all members.
        unreachable_from: &["sulcus-volume", "xtask"],
    },
    Confined {
        what: "a network client or a C TLS library",
        matches: |name| {
            ["reqwest", "native-tls", "openssl", "openssl-sys", "curl", "curl-sys", "git2"].contains(&name)
        },
        named_by: &[],
        unreachable_from: &[
            "sulcus-volume",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-model",
            "sulcus-metrics",
            "sulcus-pipeline",
            "sulcus-onnx",
            "sulcus-dataset",
            "sulcus-plan",
            "sulcus-train",
            "sulcus-runtime",
            "sulcus-capi",
            "sulcus-python",
            "sulcus-cli",
            "sulcus-viewer",
            "sulcus-examples",
            "sulcus-tests",
            "embed-burn",
            "xtask",
        ],
    },
    Confined {
        what: "an HTTP server (axum, hyper)",
        matches: |name| ["axum", "hyper", "hyper-util"].contains(&name),
        named_by: &["sulcus-serve"],
        unreachable_from: &[
            "sulcus-volume",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-model",
            "sulcus-metrics",
            "sulcus-pipeline",
            "sulcus-onnx",
            "sulcus-dataset",
            "sulcus-plan",
            "sulcus-train",
            "sulcus-runtime",
            "sulcus-viewer",
            "sulcus-examples",
            "sulcus-tests",
            "embed-burn",
            "xtask",
        ],
    },
    // Not unreachable from training: cargo's metadata counts the build scripts of Burn's backends that are not compiled in.
    Confined {
        what: "an HTTP client (ureq)",
        matches: |name| name == "ureq",
        named_by: &["sulcus-cli"],
        unreachable_from: &[
            "sulcus-volume",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-model",
            "sulcus-metrics",
            "sulcus-pipeline",
            "sulcus-onnx",
            "sulcus-runtime",
            "sulcus-capi",
            "sulcus-python",
            "sulcus-viewer",
        ],
    },
    Confined {
        what: "Python (pyo3, numpy)",
        matches: |name| name == "numpy" || name == "pyo3" || name.starts_with("pyo3-"),
        named_by: &["sulcus-python"],
        unreachable_from: &["sulcus-runtime", "sulcus-train", "sulcus-cli", "sulcus-viewer", "xtask"],
    },
];

const LIBRARIES_WITH_THREADS: &[&str] = &[
    "sulcus-io",
    "sulcus-kernels",
    "sulcus-pipeline",
    "sulcus-dataset",
    "sulcus-train",
    "sulcus-runtime",
    "sulcus-cli",
    "sulcus-examples",
    "sulcus-tests",
];

/// Checks the workspace at `root` and its ARCHITECTURE.md against the rules.
///
/// # Errors
/// A line for each edge that the rules do not allow.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let mut command = step::cargo();
    command.current_dir(root).args(["metadata", "--format-version", "1", "--locked"]);
    let text = step::capture(&mut command).map_err(|e| {
        format!("{e}\nhint: Cargo.lock must fit the manifests: run `cargo metadata` and commit it")
    })?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|e| format!("reading what cargo metadata printed: {e}"))?;
    let mut found = violations(&metadata)?;
    let page = root.join("ARCHITECTURE.md");
    match std::fs::read_to_string(&page) {
        Ok(page) => found.extend(documented(&page)),
        Err(e) => found.push(format!("the code map can't be read: {e}: {}", page.display())),
    }
    if found.is_empty() { Ok(()) } else { Err(format!("dependency rules:\n  {}", found.join("\n  "))) }
}

/// Every edge in `metadata` (the JSON of `cargo metadata`) that the rules do not allow, one sentence each.
///
/// # Errors
/// When the JSON has not cargo's form.
fn violations(metadata: &Value) -> Result<Vec<String>, String> {
    let graph = Graph::read(metadata)?;
    let rules: BTreeMap<&str, &[&str]> = MEMBERS.iter().copied().collect();
    let mut found = Vec::new();
    for (member, named) in &graph.members {
        let Some(allowed) = rules.get(member.as_str()) else {
            found.push(format!(
                "{member} is a workspace member with no rule: say what it may depend on in rules.rs"
            ));
            continue;
        };
        for name in named.iter().filter(|name| graph.members.contains_key(*name)) {
            let is_for_tests =
                FOR_TESTS.contains(&name.as_str()) || FOR_TESTS_OF.contains(&(member.as_str(), name.as_str()));
            if is_for_tests && !graph.linked.contains(&(member.clone(), name.clone())) {
                continue;
            }
            if !allowed.contains(&name.as_str()) && name != member {
                found.push(format!("{member} may not depend on {name} (allowed: {})", list(allowed)));
            }
        }
        for family in CONFINED {
            for name in named.iter().filter(|name| (family.matches)(name)) {
                if !family.named_by.contains(&member.as_str()) {
                    found.push(format!(
                        "{member} may not name {name}: {} is for {} alone",
                        family.what,
                        list(family.named_by)
                    ));
                }
            }
            if family.unreachable_from.contains(&member.as_str()) {
                for path in graph.paths(member, family.matches) {
                    found.push(format!("{member} may not reach {}, found {path}", family.what));
                }
            }
        }
    }
    Ok(found)
}

/// What ARCHITECTURE.md's code map lacks: a row `| name | … | allowed |` for each member.
fn documented(page: &str) -> Vec<String> {
    let rows: BTreeMap<String, String> = page
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').collect();
            let (first, last) = (cells.first()?, cells.last()?);
            (cells.len() == 3).then(|| (plain(first), plain(last)))
        })
        .collect();
    MEMBERS
        .iter()
        .filter_map(|(member, allowed)| match rows.get(*member) {
            None => Some(format!("ARCHITECTURE.md has no row for {member} in its code map")),
            Some(said) if *said != list(allowed) => {
                Some(format!("ARCHITECTURE.md lets {member} depend on '{said}', the rules on '{}'", list(allowed)))
            }
            Some(_) => None,
        })
        .collect()
}

fn plain(cell: &str) -> String {
    cell.trim().replace('`', "")
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// The part of cargo's metadata that the rules are about.
struct Graph {
    /// Member → the names that its manifest gives, dev- and build-dependencies included.
    members: BTreeMap<String, BTreeSet<String>>,
    /// Member and a name in its manifest that is not only for its tests.
    linked: BTreeSet<(String, String)>,
    /// Package id → name.
    names: BTreeMap<String, String>,
    /// Package id → what it is linked with (normal and build, not dev).
    edges: BTreeMap<String, Vec<String>>,
    /// Member → package id.
    ids: BTreeMap<String, String>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self, String> {
        let members: BTreeSet<&str> =
            array(metadata, "workspace_members")?.iter().filter_map(Value::as_str).collect();
        let mut graph = Self {
            members: BTreeMap::new(),
            linked: BTreeSet::new(),
            names: BTreeMap::new(),
            edges: BTreeMap::new(),
            ids: BTreeMap::new(),
        };
        for package in array(metadata, "packages")? {
            let (id, name) = (text(package, "id")?, text(package, "name")?);
            graph.names.insert(id.into(), name.into());
            if members.contains(id) {
                let mut named = BTreeSet::new();
                for dependency in array(package, "dependencies")? {
                    let dependency_name = text(dependency, "name")?;
                    named.insert(dependency_name.to_owned());
                    if dependency.get("kind").and_then(Value::as_str) != Some("dev") {
                        graph.linked.insert((name.to_owned(), dependency_name.to_owned()));
                    }
                }
                graph.members.insert(name.into(), named);
                graph.ids.insert(name.into(), id.into());
            }
        }
        let resolve = metadata.get("resolve").ok_or("cargo metadata has no 'resolve'")?;
        for node in array(resolve, "nodes")? {
            let mut linked = Vec::new();
            for dependency in array(node, "deps")? {
                let kinds = array(dependency, "dep_kinds")?;
                if kinds.iter().any(|kind| kind.get("kind").and_then(Value::as_str) != Some("dev")) {
                    linked.push(text(dependency, "pkg")?.to_string());
                }
            }
            graph.edges.insert(text(node, "id")?.into(), linked);
        }
        Ok(graph)
    }

    /// A shortest chain from `member` to each package that `matches`, as `a > b > c`; a chain ends at its first match.
    fn paths(&self, member: &str, matches: fn(&str) -> bool) -> Vec<String> {
        let Some(start) = self.ids.get(member) else { return Vec::new() };
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start.as_str()]);
        let mut found = Vec::new();
        while let Some(id) = queue.pop_front() {
            if id != start && matches(self.name(id)) {
                let mut chain = vec![self.name(id)];
                let mut at = id;
                while let Some(before) = came_from.get(at) {
                    chain.push(self.name(before));
                    at = before;
                }
                chain.reverse();
                found.push(chain.join(" > "));
                continue;
            }
            for next in self.edges.get(id).into_iter().flatten() {
                if next != start && !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, id);
                    queue.push_back(next);
                }
            }
        }
        found
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>, String> {
    value.get(key).and_then(Value::as_array).ok_or_else(|| format!("cargo metadata has no list '{key}'"))
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value.get(key).and_then(Value::as_str).ok_or_else(|| format!("cargo metadata has no text '{key}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Cargo's JSON for a made-up workspace: `edges` are (from, to, kind); what starts with "sulcus" is a member.
    fn metadata(edges: &[(&str, &str, Option<&str>)]) -> Value {
        let names: BTreeSet<&str> = edges.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        let of = |name: &str| edges.iter().filter(move |(from, ..)| *from == name).collect::<Vec<_>>();
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let dependencies: Vec<Value> =
                    of(name).iter().map(|(_, to, kind)| json!({"name": to, "kind": kind})).collect();
                json!({"id": format!("id+{name}"), "name": name, "dependencies": dependencies})
            })
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = of(name)
                    .iter()
                    .map(|(_, to, kind)| json!({"pkg": format!("id+{to}"), "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": format!("id+{name}"), "deps": deps})
            })
            .collect();
        let members: Vec<String> =
            names.iter().filter(|name| name.starts_with("sulcus")).map(|name| format!("id+{name}")).collect();
        json!({"workspace_members": members, "packages": packages, "resolve": {"nodes": nodes}})
    }

    #[test]
    fn the_allowed_edges_pass() {
        let fine = metadata(&[
            ("sulcus-io", "sulcus-volume", None),
            ("sulcus-train", "burn", None),
            ("sulcus-train", "sulcus-io", None),
            ("sulcus-runtime", "ort", None),
            ("sulcus-cli", "sulcus-train", None),
            ("sulcus-cli", "sulcus-runtime", None),
        ]);
        assert_eq!(violations(&fine).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn training_may_not_depend_on_the_runtime_nor_the_other_way_round() {
        for (from, to) in [("sulcus-train", "sulcus-runtime"), ("sulcus-runtime", "sulcus-train")] {
            let found = violations(&metadata(&[(from, to, None)])).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{from} may not depend on {to}")), "{found:?}");
        }
    }

    #[test]
    fn a_dev_dependency_is_an_edge_too() {
        let found = violations(&metadata(&[("sulcus-volume", "sulcus-io", Some("dev"))])).unwrap();
        assert_eq!(found, ["sulcus-volume may not depend on sulcus-io (allowed: nothing)"]);
    }

    #[test]
    fn every_crates_tests_may_use_the_harness_and_nothing_else_may() {
        let for_tests = metadata(&[("sulcus-volume", "sulcus-harness", Some("dev"))]);
        assert_eq!(violations(&for_tests).unwrap(), Vec::<String>::new());
        let linked = violations(&metadata(&[("sulcus-volume", "sulcus-harness", None)])).unwrap();
        assert_eq!(linked, ["sulcus-volume may not depend on sulcus-harness (allowed: nothing)"]);
    }

    #[test]
    fn burn_stays_in_training() {
        let found = violations(&metadata(&[("sulcus-cli", "burn-store", None)])).unwrap();
        assert_eq!(found, ["sulcus-cli may not name burn-store: Burn is for sulcus-train, embed-burn alone"]);
    }

    #[test]
    fn a_forbidden_crate_is_found_behind_another() {
        let found =
            violations(&metadata(&[("sulcus-runtime", "innocent", None), ("innocent", "burn-tensor", None)]))
                .unwrap();
        assert_eq!(found, ["sulcus-runtime may not reach Burn, found sulcus-runtime > innocent > burn-tensor"]);
    }

    #[test]
    fn what_only_a_dependencys_tests_use_is_not_reached() {
        let fine = metadata(&[("sulcus-runtime", "innocent", None), ("innocent", "burn-tensor", Some("dev"))]);
        assert_eq!(violations(&fine).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_new_member_needs_a_rule() {
        let found = violations(&metadata(&[("sulcus-cloud", "serde", None)])).unwrap();
        assert!(found[0].starts_with("sulcus-cloud is a workspace member with no rule"), "{found:?}");
    }

    #[test]
    fn openssl_is_refused_wherever_it_hides() {
        let found =
            violations(&metadata(&[("sulcus-cli", "fetch", None), ("fetch", "openssl-sys", None)])).unwrap();
        assert!(found[0].contains("sulcus-cli > fetch > openssl-sys"), "{found:?}");
    }

    #[test]
    fn metadata_of_another_form_is_an_error() {
        assert!(violations(&json!({"packages": []})).unwrap_err().contains("workspace_members"));
    }

    #[test]
    fn the_code_map_must_say_the_same() {
        let page: String = MEMBERS
            .iter()
            .map(|(member, allowed)| format!("| `{member}` | what | {} |\n", list(allowed)))
            .collect();
        assert_eq!(documented(&page), Vec::<String>::new());
        let wrong = page.replace("| `sulcus-volume` | what | nothing |", "| `sulcus-volume` | what | sulcus-io |");
        assert_eq!(documented(&wrong).len(), 1);
        assert!(documented("# nothing here").len() == MEMBERS.len());
    }
}
