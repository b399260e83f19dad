//! Files that import from each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;

use super::modules::{Crate, ModuleId};
use super::references::Edges;

/// A set of files that all depend on each other, directly or indirectly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    files: BTreeSet<String>,
    /// The shortest circle through each file, which shows what to change.
    ways: BTreeSet<Vec<Use>>,
}

/// A file and the names that it uses from the next one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    file: String,
    names: Vec<String>,
}

impl Circle {
    /// With the paths of the files relative to the folder `root`.
    pub(super) fn relative_to(self, root: &Path) -> Self {
        let short = |path: &str| {
            let path = Path::new(path);
            path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
        };
        let files = self.files.iter().map(|file| short(file)).collect();
        let shorten = |one: Use| Use { file: short(&one.file), ..one };
        Self { files, ways: self.ways.into_iter().map(|way| way.into_iter().map(shorten).collect()).collect() }
    }

    /// The files, sorted, separated by spaces.
    pub(super) fn name(&self) -> String {
        self.files.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "these files import from each other: {}", self.name())?;
        for way in &self.ways {
            let Some(first) = way.first() else { continue };
            write!(f, "\n    {}", first.file)?;
            let next = way.iter().skip(1).chain([first]);
            for (i, (one, next)) in way.iter().zip(next).enumerate() {
                let which = if i == 0 { "" } else { ", which" };
                write!(f, "{which} uses {} of {}", one.names.join(" "), next.file)?;
            }
        }
        Ok(())
    }
}

/// For each file the files that it uses.
type Graph = BTreeMap<ModuleId, BTreeSet<ModuleId>>;

/// The circles among the files of a crate.
pub(super) fn find(program: &Crate, edges: &Edges) -> Vec<Circle> {
    let mut graph = Graph::new();
    for (from, to) in edges.keys() {
        graph.entry(*from).or_default().insert(*to);
    }
    let ways: BTreeMap<ModuleId, Vec<ModuleId>> =
        graph.keys().filter_map(|id| Some((*id, shortest_way_back(&graph, *id)?))).collect();
    let reached: BTreeMap<ModuleId, BTreeSet<ModuleId>> =
        ways.keys().map(|id| (*id, reach(&graph, *id))).collect();
    let reaches = |from: &ModuleId, to: &ModuleId| reached.get(from).is_some_and(|files| files.contains(to));
    let mut groups: Vec<BTreeSet<ModuleId>> = Vec::new();
    for id in ways.keys() {
        let together = |other: &ModuleId| reaches(id, other) && reaches(other, id);
        match groups.iter_mut().find(|group| group.first().is_some_and(together)) {
            Some(group) => drop(group.insert(*id)),
            None => groups.push(BTreeSet::from([*id])),
        }
    }
    let name = |id: &ModuleId| program.modules[*id].file.to_string_lossy().into_owned();
    let uses = |way: &Vec<ModuleId>| -> Vec<Use> {
        let next = way.iter().cycle().skip(1);
        let names = |edge| edges.get(&edge).into_iter().flatten().cloned().collect();
        way.iter().zip(next).map(|(from, to)| Use { file: name(from), names: names((*from, *to)) }).collect()
    };
    groups
        .iter()
        .map(|group| Circle {
            files: group.iter().map(name).collect(),
            ways: group.iter().filter_map(|id| ways.get(id)).map(uses).collect(),
        })
        .collect()
}

/// All files that can be reached in one step or more.
fn reach(graph: &Graph, from: ModuleId) -> BTreeSet<ModuleId> {
    let mut reached = BTreeSet::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        queue.extend(graph.get(&at).into_iter().flatten().filter(|next| reached.insert(**next)));
    }
    reached
}

/// The files of a shortest circle through `start`, beginning with `start`.
fn shortest_way_back(graph: &Graph, start: ModuleId) -> Option<Vec<ModuleId>> {
    let mut came_from: BTreeMap<ModuleId, ModuleId> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in graph.get(&at).into_iter().flatten() {
            if *next == start {
                let before = std::iter::successors(Some(at), |id| came_from.get(id).copied());
                let mut way: Vec<ModuleId> = before.take_while(|id| *id != start).chain([start]).collect();
                way.reverse();
                let first = way.iter().enumerate().min_by_key(|(_, id)| **id).map_or(0, |(i, _)| i);
                way.rotate_left(first);
                return Some(way);
            }
            if !came_from.contains_key(next) {
                came_from.insert(*next, at);
                queue.push_back(*next);
            }
        }
    }
    None
}
