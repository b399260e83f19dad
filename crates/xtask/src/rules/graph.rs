//! The dependencies of the workspace, from the metadata of cargo.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

/// The part of cargo's metadata that the rules use.
pub(super) struct Graph {
    /// Member → the names in its manifest, including dev- and build-dependencies.
    pub(super) members: BTreeMap<String, BTreeSet<String>>,
    /// Member and a name in its manifest that is not only a dev-dependency.
    pub(super) linked: BTreeSet<(String, String)>,
    /// Package id → name.
    names: BTreeMap<String, String>,
    /// Package id → the packages that it is linked with (normal and build dependencies, not dev).
    edges: BTreeMap<String, Vec<String>>,
    /// Member → package id.
    ids: BTreeMap<String, String>,
}

impl Graph {
    /// Reads the JSON of `cargo metadata`.
    ///
    /// # Errors
    /// If the JSON does not have the form that cargo writes.
    pub(super) fn read(metadata: &Value) -> Result<Self, String> {
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

    /// A shortest chain from `member` to each package that `matches`, such as `a > b > c`; a chain ends at its first
    /// match.
    pub(super) fn paths(&self, member: &str, matches: fn(&str) -> bool) -> Vec<String> {
        let Some(start) = self.ids.get(member) else { return Vec::new() };
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start.as_str()]);
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
