//! Compares the public items of the libraries that other projects embed with a committed list for each library.
//!
//! The lists are made from the sources, because rustdoc's JSON, which the crate `public-api` reads, is unstable and
//! changes with nearly every release of Rust. Derived implementations are therefore listed, automatic ones are not, and
//! types are written as in the source.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quote::ToTokens;
use syn::{Fields, ImplItem, Item, ItemImpl, TraitItem, Type, Visibility};

use crate::imports::modules::{Crate, ModuleId, is_for_tests};
use crate::imports::resolve::{Target, resolve};
use text::{between, derives, is_non_exhaustive, short, signature};

/// The libraries whose public items must not change unnoticed.
const LIBRARIES: [&str; 4] = ["sulcus-volume", "sulcus-io", "sulcus-pipeline", "sulcus-runtime"];
/// Name of the list in the folder of a library.
const LIST: &str = "public-api.txt";
/// Maximum depth of nested modules, because re-exports can be circular.
const MAX_DEPTH: usize = 8;

/// Compares the public items with the lists, or writes the lists with `--bless` or if `SULCUS_BLESS` is set.
///
/// # Errors
/// The items that differ, and how to accept them.
pub(crate) fn check(root: &Path, bless: bool) -> Result<(), String> {
    let bless = bless || std::env::var_os("SULCUS_BLESS").is_some_and(|value| !value.is_empty());
    let mut differences = Vec::new();
    for library in LIBRARIES {
        let folder = root.join("crates").join(library);
        let program = Crate::read(&folder.join("src").join("lib.rs"))?;
        let items = public_items(&program, &library.replace('-', "_"));
        let file = folder.join(LIST);
        if bless {
            let text: String = items.iter().map(|item| format!("{item}\n")).collect();
            std::fs::write(&file, text).map_err(|e| format!("writing a file: {e}: {}", file.display()))?;
            continue;
        }
        let committed = std::fs::read_to_string(&file)
            .map_err(|e| format!("reading the list of public items: {e}: {}", file.display()))?;
        differences.extend(compare(&committed.lines().map(str::to_owned).collect(), &items));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the public items are not those in {LIST}:\n  {}\nhint: if the change is wanted, run `cargo xtask api --bless` and \
         commit the lists",
        differences.join("\n  ")
    ))
}

/// A line for each item that is in only one of the two lists.
fn compare(committed: &BTreeSet<String>, found: &BTreeSet<String>) -> Vec<String> {
    let removed = committed.difference(found).map(|item| format!("- {item}"));
    removed.chain(found.difference(committed).map(|item| format!("+ {item}"))).collect()
}

/// The public items of a library, one per line.
fn public_items(program: &Crate, name: &str) -> BTreeSet<String> {
    let mut listing = Listing { program, items: BTreeSet::new(), types: BTreeMap::new() };
    listing.module(0, name, 0);
    listing.implementations();
    listing.items
}

struct Listing<'a> {
    program: &'a Crate,
    items: BTreeSet<String>,
    /// Public types and traits: the defining module and the name in it → the public path.
    types: BTreeMap<(ModuleId, String), String>,
}

impl Listing<'_> {
    /// Lists the public items of a module, and its re-exports.
    fn module(&mut self, id: ModuleId, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let program = self.program;
        let module = &program.modules[id];
        for item in &module.items {
            if let Item::Use(item) = item
                && is_public(&item.vis)
            {
                self.re_exports(id, &item.tree, &mut Vec::new(), path, depth);
            } else if let Some((name, true)) = named(item) {
                self.item(id, item, &format!("{path}::{name}"));
            }
        }
        for (name, child) in &module.children {
            if program.modules[*child].is_public {
                let path = format!("{path}::{name}");
                self.items.insert(format!("pub mod {path}"));
                self.module(*child, &path, depth + 1);
            }
        }
    }

    fn re_exports(
        &mut self,
        id: ModuleId,
        tree: &syn::UseTree,
        before: &mut Vec<String>,
        path: &str,
        depth: usize,
    ) {
        match tree {
            syn::UseTree::Path(one) => {
                before.push(one.ident.to_string());
                self.re_exports(id, &one.tree, before, path, depth);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.re_exports(id, tree, before, path, depth));
            }
            syn::UseTree::Glob(_) => {
                for target in resolve(self.program, id, before) {
                    if let Target::Module(module) = target {
                        self.module(module, path, depth + 1);
                    }
                }
            }
            syn::UseTree::Name(_) | syn::UseTree::Rename(_) => {
                let (name, alias) = match tree {
                    syn::UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
                    _ => (tree.to_token_stream().to_string(), tree.to_token_stream().to_string()),
                };
                let named = [before.as_slice(), std::slice::from_ref(&name)].concat();
                self.re_export(id, &named, &format!("{path}::{alias}"), depth);
            }
        }
    }

    fn re_export(&mut self, id: ModuleId, named: &[String], path: &str, depth: usize) {
        let targets = resolve(self.program, id, named);
        if targets.is_empty() {
            self.items.insert(format!("pub use {path} = {}", named.join("::")));
        }
        let program = self.program;
        for target in targets {
            match target {
                Target::Module(module) => {
                    self.items.insert(format!("pub mod {path}"));
                    self.module(module, path, depth + 1);
                }
                Target::Item { module, name, .. } => {
                    let items = &program.modules[module].items;
                    for item in items.iter().filter(|item| named_as(item, &name)) {
                        self.item(module, item, path);
                    }
                }
            }
        }
    }

    /// Lists an item and its fields, variants or functions.
    fn item(&mut self, id: ModuleId, item: &Item, path: &str) {
        let mut add = |line: String| {
            self.items.insert(line);
        };
        let generics = |generics: &syn::Generics| {
            format!("{}{}", between(&generics.params, "<", ">"), between(&generics.where_clause, " ", ""))
        };
        match item {
            Item::Const(item) => add(format!("pub const {path}: {}", short(&item.ty))),
            Item::Static(item) => add(format!("pub static {path}: {}", short(&item.ty))),
            Item::Fn(item) => add(signature(&item.sig, path)),
            Item::Type(item) => add(format!("pub type {path}{} = {}", generics(&item.generics), short(&item.ty))),
            Item::Macro(_) => add(format!("pub macro {path}")),
            Item::Struct(item) => {
                let closed = if is_non_exhaustive(&item.attrs) { "#[non_exhaustive] " } else { "" };
                add(format!("{closed}pub struct {path}{}", generics(&item.generics)));
                for (i, field) in item.fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis)) {
                    let name = field.ident.as_ref().map_or(i.to_string(), ToString::to_string);
                    add(format!("pub {path}::{name}: {}", short(&field.ty)));
                }
                derives(&item.attrs).for_each(|name| add(format!("impl {name} for {path}")));
            }
            Item::Union(item) => add(format!("pub union {path}{}", generics(&item.generics))),
            Item::Enum(item) => {
                let closed = if is_non_exhaustive(&item.attrs) { "#[non_exhaustive] " } else { "" };
                add(format!("{closed}pub enum {path}{}", generics(&item.generics)));
                for variant in &item.variants {
                    let fields = match &variant.fields {
                        Fields::Unit => String::new(),
                        Fields::Named(fields) => format!(" {}", short(fields)),
                        Fields::Unnamed(fields) => short(fields),
                    };
                    add(format!("pub {path}::{}{fields}", variant.ident));
                }
                derives(&item.attrs).for_each(|name| add(format!("impl {name} for {path}")));
            }
            Item::Trait(item) => {
                let above = between(&item.supertraits, ": ", "");
                add(format!("pub trait {path}{}{above}", generics(&item.generics)));
                for member in &item.items {
                    match member {
                        TraitItem::Fn(function) => {
                            let given = if function.default.is_some() { " { … }" } else { "" };
                            let name = format!("{path}::{}", function.sig.ident);
                            add(signature(&function.sig, &name) + given);
                        }
                        TraitItem::Const(item) => {
                            add(format!("pub const {path}::{}: {}", item.ident, short(&item.ty)))
                        }
                        TraitItem::Type(item) => {
                            add(format!("pub type {path}::{}{}", item.ident, between(&item.bounds, ": ", "")));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if let Some((name, _)) = named(item) {
            self.types.insert((id, name), path.to_owned());
        }
    }

    /// Lists functions and implemented traits of the public types, in all modules of the crate.
    fn implementations(&mut self) {
        let program = self.program;
        for id in 0..program.modules.len() {
            for item in &program.modules[id].items {
                if let Item::Impl(item) = item {
                    self.implementation(id, item);
                }
            }
        }
    }

    fn implementation(&mut self, id: ModuleId, item: &ItemImpl) {
        let of_trait = item.trait_.as_ref().map(|(_, path, _)| short(path));
        let public = self.public_type(id, &item.self_ty);
        if let Some(implemented) = of_trait {
            // A trait of this crate for a foreign type is listed too.
            let ours = item.trait_.as_ref().is_some_and(|(_, path, _)| self.is_public_path(id, path));
            if public.is_some() || ours {
                let of = public.unwrap_or_else(|| short(&item.self_ty));
                let parameters = between(&item.generics.params, "<", ">");
                self.items.insert(format!("impl{parameters} {implemented} for {of}"));
            }
            return;
        }
        let Some(path) = public else { return };
        for member in &item.items {
            match member {
                ImplItem::Fn(function) if is_public(&function.vis) && !is_for_tests(&function.attrs) => {
                    self.items.insert(signature(&function.sig, &format!("{path}::{}", function.sig.ident)));
                }
                ImplItem::Const(item) if is_public(&item.vis) => {
                    self.items.insert(format!("pub const {path}::{}: {}", item.ident, short(&item.ty)));
                }
                _ => {}
            }
        }
    }

    /// The public path of a type, without its arguments; `None` if it is private or belongs to another crate.
    fn public_type(&self, id: ModuleId, of: &Type) -> Option<String> {
        match of {
            Type::Path(path) => self.public_path(id, &path.path),
            Type::Reference(reference) => self.public_type(id, &reference.elem),
            _ => None,
        }
    }

    fn is_public_path(&self, id: ModuleId, path: &syn::Path) -> bool {
        self.public_path(id, path).is_some()
    }

    fn public_path(&self, id: ModuleId, path: &syn::Path) -> Option<String> {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        resolve(self.program, id, &names).into_iter().find_map(|target| match target {
            Target::Item { module, name, .. } => self.types.get(&(module, name)).cloned(),
            Target::Module(_) => None,
        })
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn named_as(item: &Item, name: &str) -> bool {
    named(item).is_some_and(|(found, _)| found == name)
}

/// The name of an item and whether it is public.
fn named(item: &Item) -> Option<(String, bool)> {
    Some(match item {
        Item::Const(item) => (item.ident.to_string(), is_public(&item.vis)),
        Item::Enum(item) => (item.ident.to_string(), is_public(&item.vis)),
        Item::Fn(item) => (item.sig.ident.to_string(), is_public(&item.vis)),
        Item::Macro(item) => {
            let exported = item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
            (item.ident.as_ref()?.to_string(), exported)
        }
        Item::Static(item) => (item.ident.to_string(), is_public(&item.vis)),
        Item::Struct(item) => (item.ident.to_string(), is_public(&item.vis)),
        Item::Trait(item) => (item.ident.to_string(), is_public(&item.vis)),
        Item::Type(item) => (item.ident.to_string(), is_public(&item.vis)),
        Item::Union(item) => (item.ident.to_string(), is_public(&item.vis)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
