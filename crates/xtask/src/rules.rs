//! The dependency rules: which crate may depend on which, checked against `cargo metadata`.
//!
//! ARCHITECTURE.md contains the same table for people; [`documented`] compares the two.

mod graph;

use std::collections::BTreeMap;
use std::path::Path;

use graph::Graph;
use serde_json::Value;

use crate::step;

/// Every workspace member and the members that its manifest may name. This includes dev-dependencies, except those of
/// [`FOR_TESTS`] and [`FOR_TESTS_OF`].
const MEMBERS: &[(&str, &[&str])] = &[
    ("sulcus-volume", &[]),
    ("sulcus-dicom", &["sulcus-volume"]),
    ("sulcus-io", &["sulcus-dicom", "sulcus-volume"]),
    ("sulcus-model", &["sulcus-volume"]),
    ("sulcus-metrics", &["sulcus-model", "sulcus-volume"]),
    ("sulcus-mesh", &["sulcus-volume"]),
    ("sulcus-pipeline", &["sulcus-metrics", "sulcus-model", "sulcus-volume"]),
    ("sulcus-onnx", &["sulcus-model", "sulcus-volume"]),
    ("sulcus-nnunet", &["sulcus-model", "sulcus-onnx", "sulcus-volume"]),
    ("sulcus-kernels", &[]),
    ("sulcus-kernels-digest", &["sulcus-kernels"]),
    ("sulcus-engine", &["sulcus-kernels", "sulcus-model", "sulcus-onnx", "sulcus-volume"]),
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
    (
        "sulcus-runtime",
        &["sulcus-engine", "sulcus-io", "sulcus-model", "sulcus-onnx", "sulcus-pipeline", "sulcus-volume"],
    ),
    ("sulcus-capi", &["sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-runtime", "sulcus-volume"]),
    (
        "sulcus-python",
        &["sulcus-io", "sulcus-model", "sulcus-page", "sulcus-pipeline", "sulcus-runtime", "sulcus-volume"],
    ),
    ("sulcus-serve", &["sulcus-io", "sulcus-model", "sulcus-pipeline", "sulcus-runtime", "sulcus-volume"]),
    (
        "sulcus-cli",
        &[
            "sulcus-dataset",
            "sulcus-dicom",
            "sulcus-io",
            "sulcus-mesh",
            "sulcus-metrics",
            "sulcus-model",
            "sulcus-nnunet",
            "sulcus-onnx",
            "sulcus-page",
            "sulcus-pipeline",
            "sulcus-plan",
            "sulcus-runtime",
            "sulcus-serve",
            "sulcus-train",
            "sulcus-volume",
        ],
    ),
    ("sulcus-page", &[]),
    ("sulcus-viewer", &["sulcus-io", "sulcus-metrics", "sulcus-volume"]),
    ("sulcus-viewer-engine", &["sulcus-onnx", "sulcus-runtime"]),
    ("sulcus-viewer-formats", &["sulcus-dicom", "sulcus-io", "sulcus-volume"]),
    ("sulcus-viewer-pictures", &["sulcus-io", "sulcus-volume"]),
    ("sulcus-viewer-segmentation", &["sulcus-dicom", "sulcus-io", "sulcus-volume"]),
    ("sulcus-viewer-surfaces", &["sulcus-io", "sulcus-mesh", "sulcus-volume"]),
    ("sulcus-viewer-tools", &["sulcus-io", "sulcus-metrics", "sulcus-volume"]),
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
            "sulcus-nnunet",
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

/// Members that every crate may use as dev-dependencies.
const FOR_TESTS: &[&str] = &["sulcus-harness", "sulcus-testing"];

/// Dev-dependencies that would be circular as normal dependencies: the DICOM tests compare with the results of reading
/// files.
const FOR_TESTS_OF: &[(&str, &str)] = &[("sulcus-dicom", "sulcus-io")];

/// A family of external crates that only some members may use.
struct Confined {
    what: &'static str,
    matches: fn(&str) -> bool,
    /// Members whose manifests may name it.
    named_by: &'static [&'static str],
    /// Groups of members whose dependencies must not contain it, directly or indirectly.
    unreachable_from: &'static [&'static [&'static str]],
}

/// The libraries for scans, masks and models, without engines and training.
const SCANS_AND_MODELS: &[&str] = &[
    "sulcus-volume",
    "sulcus-dicom",
    "sulcus-io",
    "sulcus-model",
    "sulcus-mesh",
    "sulcus-metrics",
    "sulcus-pipeline",
    "sulcus-onnx",
];

/// The modules of the browser viewer. The last one predicts.
pub(crate) const VIEWER: [&str; 7] = [
    "sulcus-viewer",
    "sulcus-viewer-formats",
    "sulcus-viewer-pictures",
    "sulcus-viewer-segmentation",
    "sulcus-viewer-surfaces",
    "sulcus-viewer-tools",
    "sulcus-viewer-engine",
];
const VIEWER_WITHOUT_ENGINE: &[&str] = VIEWER.split_at(VIEWER.len() - 1).0;

const CONFINED: &[Confined] = &[
    Confined {
        what: "Burn",
        matches: |name| name == "burn" || name.starts_with("burn-") || name.starts_with("cubecl"),
        named_by: &["sulcus-train", "sulcus-tests", "embed-burn"],
        unreachable_from: &[
            SCANS_AND_MODELS,
            &VIEWER,
            &["sulcus-dataset", "sulcus-plan", "sulcus-runtime", "sulcus-capi", "sulcus-python", "xtask"],
        ],
    },
    Confined {
        what: "an inference engine (ort, tract)",
        matches: |name| name == "ort" || name.starts_with("ort-") || name.starts_with("tract-"),
        named_by: &["sulcus-runtime"],
        unreachable_from: &[
            SCANS_AND_MODELS,
            VIEWER_WITHOUT_ENGINE,
            &["sulcus-dataset", "sulcus-plan", "sulcus-train", "embed-burn", "xtask"],
        ],
    },
    Confined {
        what: "threads (rayon)",
        matches: |name| name == "rayon",
        named_by: LIBRARIES_WITH_THREADS,
        // The viewer has no threads either, but cargo's metadata contains the features that `sulcus-io` has for all
        // members together.
        unreachable_from: &[&["sulcus-volume", "xtask"]],
    },
    Confined {
        what: "a network client or a C TLS library",
        matches: |name| {
            ["reqwest", "native-tls", "openssl", "openssl-sys", "curl", "curl-sys", "git2"].contains(&name)
        },
        named_by: &[],
        unreachable_from: &[
            SCANS_AND_MODELS,
            &VIEWER,
            &[
                "sulcus-dataset",
                "sulcus-plan",
                "sulcus-train",
                "sulcus-runtime",
                "sulcus-capi",
                "sulcus-python",
                "sulcus-cli",
                "sulcus-examples",
                "sulcus-tests",
                "embed-burn",
                "xtask",
            ],
        ],
    },
    Confined {
        what: "an HTTP server (axum, hyper)",
        matches: |name| ["axum", "hyper", "hyper-util"].contains(&name),
        named_by: &["sulcus-serve"],
        unreachable_from: &[
            SCANS_AND_MODELS,
            &VIEWER,
            &[
                "sulcus-dataset",
                "sulcus-plan",
                "sulcus-train",
                "sulcus-runtime",
                "sulcus-examples",
                "sulcus-tests",
                "embed-burn",
                "xtask",
            ],
        ],
    },
    // Not `unreachable_from` training, because cargo's metadata contains build scripts of Burn's backends that are not
    // compiled.
    Confined {
        what: "an HTTP client (ureq)",
        matches: |name| name == "ureq",
        named_by: &["sulcus-cli"],
        unreachable_from: &[SCANS_AND_MODELS, &VIEWER, &["sulcus-runtime", "sulcus-capi", "sulcus-python"]],
    },
    Confined {
        what: "Python (pyo3, numpy)",
        matches: |name| name == "numpy" || name == "pyo3" || name.starts_with("pyo3-"),
        named_by: &["sulcus-python"],
        unreachable_from: &[&VIEWER, &["sulcus-runtime", "sulcus-train", "sulcus-cli", "xtask"]],
    },
];

const LIBRARIES_WITH_THREADS: &[&str] = &[
    "sulcus-io",
    "sulcus-kernels",
    "sulcus-engine",
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
/// If the JSON does not have the form that cargo writes.
fn violations(metadata: &Value) -> Result<Vec<String>, String> {
    let graph = Graph::read(metadata)?;
    let rules: BTreeMap<&str, &[&str]> = MEMBERS.iter().copied().collect();
    let mut found = Vec::new();
    for (member, named) in &graph.members {
        let Some(allowed) = rules.get(member.as_str()) else {
            found.push(format!(
                "{member} is a workspace member without a rule: add its allowed dependencies to rules.rs"
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
                found.push(format!("{member} must not depend on {name} (allowed: {})", list(allowed)));
            }
        }
        for family in CONFINED {
            for name in named.iter().filter(|name| (family.matches)(name)) {
                if !family.named_by.contains(&member.as_str()) {
                    found.push(format!(
                        "{member} must not name {name}: only {} may use {}",
                        list(family.named_by),
                        family.what
                    ));
                }
            }
            if family.unreachable_from.concat().contains(&member.as_str()) {
                for path in graph.paths(member, family.matches) {
                    found.push(format!("{member} must not depend on {}, found {path}", family.what));
                }
            }
        }
    }
    Ok(found)
}

/// The rows that are missing or different in ARCHITECTURE.md's code map: a row `| name | … | allowed |` for each member.
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
            Some(said) if *said != list(allowed) => Some(format!(
                "ARCHITECTURE.md allows {member} to depend on '{said}', the rules on '{}'",
                list(allowed)
            )),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    /// Cargo's JSON for an artificial workspace: `edges` are (from, to, kind); names that start with "sulcus" are
    /// members.
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
    fn allowed_edges_are_accepted() {
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
    fn training_and_runtime_must_not_depend_on_each_other() {
        for (from, to) in [("sulcus-train", "sulcus-runtime"), ("sulcus-runtime", "sulcus-train")] {
            let found = violations(&metadata(&[(from, to, None)])).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{from} must not depend on {to}")), "{found:?}");
        }
    }

    #[test]
    fn dev_dependencies_are_edges_too() {
        let found = violations(&metadata(&[("sulcus-volume", "sulcus-io", Some("dev"))])).unwrap();
        assert_eq!(found, ["sulcus-volume must not depend on sulcus-io (allowed: nothing)"]);
    }

    #[test]
    fn only_tests_may_use_the_harness() {
        let for_tests = metadata(&[("sulcus-volume", "sulcus-harness", Some("dev"))]);
        assert_eq!(violations(&for_tests).unwrap(), Vec::<String>::new());
        let linked = violations(&metadata(&[("sulcus-volume", "sulcus-harness", None)])).unwrap();
        assert_eq!(linked, ["sulcus-volume must not depend on sulcus-harness (allowed: nothing)"]);
    }

    #[test]
    fn only_training_may_use_burn() {
        let found = violations(&metadata(&[("sulcus-cli", "burn-store", None)])).unwrap();
        assert_eq!(
            found,
            ["sulcus-cli must not name burn-store: only sulcus-train, sulcus-tests, embed-burn may use Burn"]
        );
    }

    #[test]
    fn forbidden_crate_is_found_among_indirect_dependencies() {
        let found =
            violations(&metadata(&[("sulcus-runtime", "innocent", None), ("innocent", "burn-tensor", None)]))
                .unwrap();
        assert_eq!(
            found,
            ["sulcus-runtime must not depend on Burn, found sulcus-runtime > innocent > burn-tensor"]
        );
    }

    #[test]
    fn dev_dependencies_of_dependencies_are_ignored() {
        let fine = metadata(&[("sulcus-runtime", "innocent", None), ("innocent", "burn-tensor", Some("dev"))]);
        assert_eq!(violations(&fine).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn new_member_needs_a_rule() {
        let found = violations(&metadata(&[("sulcus-cloud", "serde", None)])).unwrap();
        assert!(found[0].starts_with("sulcus-cloud is a workspace member without a rule"), "{found:?}");
    }

    #[test]
    fn openssl_is_refused_among_indirect_dependencies() {
        let found =
            violations(&metadata(&[("sulcus-cli", "fetch", None), ("fetch", "openssl-sys", None)])).unwrap();
        assert!(found[0].contains("sulcus-cli > fetch > openssl-sys"), "{found:?}");
    }

    #[test]
    fn metadata_of_another_form_is_an_error() {
        assert!(violations(&json!({"packages": []})).unwrap_err().contains("workspace_members"));
    }

    #[test]
    fn code_map_must_equal_the_rules() {
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
