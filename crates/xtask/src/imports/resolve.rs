//! Resolves a path in a module to the module that defines its target.

use super::modules::{Crate, Kind, ModuleId};

/// The target of a path inside the crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Module(ModuleId),
    /// An item, by its name in the module that defines it.
    Item {
        module: ModuleId,
        name: String,
        kind: Kind,
    },
}

/// Maximum length of a chain of re-exports; a longer chain is circular.
const MAX_HOPS: usize = 32;

/// The targets of `path` in module `from`: none for a path outside the crate, several if a name stands for a module and a
/// function.
pub(crate) fn resolve(program: &Crate, from: ModuleId, path: &[String]) -> Vec<Target> {
    follow(program, from, path, 0)
}

fn follow(program: &Crate, from: ModuleId, path: &[String], hops: usize) -> Vec<Target> {
    if hops > MAX_HOPS {
        return Vec::new();
    }
    let mut at = from;
    let mut rest = path;
    let mut inside = false;
    while let [first, more @ ..] = rest {
        let next = match first.as_str() {
            "crate" | "$crate" => Some(0),
            "self" => Some(at),
            "super" => program.modules[at].parent,
            _ => break,
        };
        let Some(next) = next else { return Vec::new() };
        (at, rest, inside) = (next, more, true);
    }
    walk(program, at, rest, inside, hops)
}

/// `inside`: the path is already inside the crate, so a name that is not found was created by a macro.
fn walk(program: &Crate, at: ModuleId, path: &[String], inside: bool, hops: usize) -> Vec<Target> {
    let [name, rest @ ..] = path else { return vec![Target::Module(at)] };
    let module = &program.modules[at];
    let mut found = Vec::new();
    if let Some(child) = module.children.get(name) {
        found.extend(walk(program, *child, rest, true, hops));
    }
    let can_be = |kind: Kind| kind == Kind::Type || rest.is_empty();
    if let Some(kind) = module.defined.get(name).filter(|kind| can_be(**kind)) {
        found.push(Target::Item { module: at, name: name.clone(), kind: *kind });
    }
    for import in module.imported.get(name).into_iter().flatten() {
        // `use name::Other` imports a path that starts with its own name.
        if import.first() == Some(name) && !module.children.contains_key(name) {
            continue;
        }
        for target in follow(program, at, import, hops + 1) {
            match target {
                Target::Module(id) => found.extend(walk(program, id, rest, true, hops + 1)),
                Target::Item { kind, .. } if !can_be(kind) => {}
                item @ Target::Item { .. } => found.push(item),
            }
        }
    }
    if found.is_empty() && hops < MAX_HOPS {
        for glob in &module.globs {
            for target in follow(program, at, glob, hops + 1) {
                if let Target::Module(id) = target
                    && id != at
                {
                    found.extend(walk(program, id, path, false, hops + 1));
                }
            }
        }
    }
    if found.is_empty() && inside {
        found.push(Target::Item { module: at, name: name.clone(), kind: Kind::Type });
    }
    found.dedup();
    found
}
