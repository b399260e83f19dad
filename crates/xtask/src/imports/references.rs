//! Determines which names each file uses from which other file.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, Macro, Path};

use super::modules::{Crate, ModuleId, is_for_tests};
use super::resolve::{Target, resolve};

/// Module of one file, module of another file → the used names. Edges between a module and its ancestors are ignored.
pub(super) type Edges = BTreeMap<(ModuleId, ModuleId), BTreeSet<String>>;

/// All uses of other files in the crate.
pub(super) fn edges(program: &Crate) -> Edges {
    let mut edges = Edges::new();
    for id in 0..program.modules.len() {
        let module = &program.modules[id];
        let mut paths = Paths::default();
        for item in &module.items {
            // Imports are read with the module, and are processed below.
            if !matches!(item, Item::Use(_)) {
                paths.visit_item(item);
            }
        }
        let imports = module.imported.values().flatten().cloned();
        let globs = module.globs.iter().cloned();
        for path in paths.found.into_iter().chain(imports).chain(globs) {
            add(program, &mut edges, id, &path);
        }
    }
    edges
}

fn add(program: &Crate, edges: &mut Edges, from: ModuleId, path: &[String]) {
    for target in resolve(program, from, path) {
        let to = match target {
            // A single word that is a module can only be a local variable of the same name.
            Target::Module(_) if path.len() == 1 => continue,
            Target::Module(id) | Target::Item { module: id, .. } => program.file_module(id),
        };
        let from = program.file_module(from);
        if from != to && !program.related(from, to) {
            let name = path.last().cloned().unwrap_or_default();
            edges.entry((from, to)).or_default().insert(name);
        }
    }
}

/// Collects the paths of some code.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl<'a> Visit<'a> for Paths {
    fn visit_path(&mut self, path: &'a Path) {
        if path.leading_colon.is_none() {
            self.found.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// The effect of a macro on its arguments is unknown; paths in them count as used.
    fn visit_macro(&mut self, call: &'a Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    /// `#[serde(with = "crate::module")]` contains a path in a string.
    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if let Ok(list) = attribute.meta.require_list() {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    /// Imports inside functions.
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let mut open = vec![(Vec::new(), &item.tree)];
        while let Some((before, tree)) = open.pop() {
            let with = |name: &syn::Ident| [before.clone(), vec![name.to_string()]].concat();
            match tree {
                syn::UseTree::Path(path) => open.push((with(&path.ident), &path.tree)),
                syn::UseTree::Name(name) => drop(self.found.insert(with(&name.ident))),
                syn::UseTree::Rename(name) => drop(self.found.insert(with(&name.ident))),
                syn::UseTree::Glob(_) => drop(self.found.insert(before)),
                syn::UseTree::Group(group) => open.extend(group.items.iter().map(|tree| (before.clone(), tree))),
            }
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

impl Paths {
    /// Paths with `::` among tokens, including those in string literals.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.end(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Literal(literal) => {
                            let text = literal.to_string();
                            if let Ok(named) = syn::parse_str::<Path>(text.trim_matches('"')) {
                                path.extend(named.segments.iter().map(|segment| segment.ident.to_string()));
                                self.end(&mut path);
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.found.insert(path);
        }
    }
}
