//! The modules of a crate: the file of each, and the names that it defines or imports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, UseTree, Visibility};

/// Index of a module in [`Crate::modules`]. The root is 0.
pub(crate) type ModuleId = usize;

/// A library or program, parsed from its sources. Test code is ignored.
pub(crate) struct Crate {
    pub(crate) modules: Vec<Module>,
}

pub(crate) struct Module {
    pub(crate) file: PathBuf,
    pub(crate) parent: Option<ModuleId>,
    /// Declared with `pub mod`.
    pub(crate) is_public: bool,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// Names of the items that are defined in this module.
    pub(crate) defined: BTreeMap<String, Kind>,
    /// Name → the path in its `use`.
    pub(crate) imported: BTreeMap<String, Vec<Import>>,
    /// Paths of `use` items with `*`.
    pub(crate) globs: Vec<Vec<String>>,
    /// The items, without those of submodules.
    pub(crate) items: Vec<Item>,
}

/// Whether a path can continue after the name of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A function, constant or macro, which ends a path.
    Value,
    /// A type or trait, which has functions and variants.
    Type,
}

/// A path that is imported under a name. Several may share a name, for example a module and a function.
pub(crate) type Import = Vec<String>;

impl Crate {
    /// Reads the crate whose root file is `root`.
    ///
    /// # Errors
    /// If a file is missing or is not Rust.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let mut program = Self { modules: Vec::new() };
        let folder = root.parent().unwrap_or(Path::new("")).to_path_buf();
        let items = parse(root)?;
        program.add(root.to_path_buf(), folder, None, items)?;
        Ok(program)
    }

    /// The files, the root first. A file with inline modules appears once.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let own_file =
            |module: &&Module| module.parent.is_none_or(|parent| self.modules[parent].file != module.file);
        self.modules.iter().filter(own_file).map(|module| module.file.as_path())
    }

    /// Whether one module is inside the other.
    pub(crate) fn related(&self, one: ModuleId, other: ModuleId) -> bool {
        self.ancestors(one).any(|id| id == other) || self.ancestors(other).any(|id| id == one)
    }

    /// The outermost module in the same file.
    pub(crate) fn file_module(&self, id: ModuleId) -> ModuleId {
        let same_file = |other: &ModuleId| self.modules[*other].file == self.modules[id].file;
        self.ancestors(id).filter(same_file).last().unwrap_or(id)
    }

    /// The module itself, its parent, and so on.
    fn ancestors(&self, id: ModuleId) -> impl Iterator<Item = ModuleId> {
        std::iter::successors(Some(id), |id| self.modules[*id].parent)
    }

    /// Adds a module whose submodules are files in `folder`.
    fn add(
        &mut self,
        file: PathBuf,
        folder: PathBuf,
        parent: Option<ModuleId>,
        items: Vec<Item>,
    ) -> Result<ModuleId, String> {
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.clone(),
            parent,
            is_public: parent.is_none(),
            children: BTreeMap::new(),
            defined: BTreeMap::new(),
            imported: BTreeMap::new(),
            globs: Vec::new(),
            items: Vec::new(),
        });
        for item in items {
            if is_for_tests(attributes(&item)) {
                continue;
            }
            if let Item::Mod(module) = item {
                let name = module.ident.to_string();
                let (child_file, child_folder, items) = match module.content {
                    Some((_, items)) => (file.clone(), folder.join(&name), items),
                    None => {
                        let (path, folder) = module_file(&file, &folder, &name, &module.attrs)?;
                        let items = parse(&path)?;
                        (path, folder, items)
                    }
                };
                let child = self.add(child_file, child_folder, Some(id), items)?;
                self.modules[child].is_public = matches!(module.vis, Visibility::Public(_));
                self.modules[id].children.insert(name, child);
                continue;
            }
            let module = &mut self.modules[id];
            if let Item::Use(item) = &item {
                imports(&item.tree, &mut Vec::new(), module);
            }
            if let Some((name, kind)) = definition(&item) {
                // A type and a function may have the same name.
                let of_both = module.defined.entry(name).or_insert(kind);
                *of_both = (*of_both).max(kind);
            }
            module.items.push(item);
        }
        Ok(id)
    }
}

/// The file of `mod name;` and the folder of its submodules.
fn module_file(
    from: &Path,
    folder: &Path,
    name: &str,
    attributes: &[Attribute],
) -> Result<(PathBuf, PathBuf), String> {
    if let Some(path) = attributes.iter().find_map(path_attribute) {
        let file = from.parent().unwrap_or(Path::new("")).join(path);
        let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        return Ok((file, folder));
    }
    let inside = folder.join(name.trim_start_matches("r#"));
    [inside.with_extension("rs"), inside.join("mod.rs")]
        .into_iter()
        .find(|file| file.is_file())
        .map(|file| (file, inside))
        .ok_or_else(|| format!("the module `{name}` has no file: {}", from.display()))
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn parse(file: &Path) -> Result<Vec<Item>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("reading a source: {e}: {}", file.display()))?;
    let parsed = syn::parse_file(&text).map_err(|e| format!("parsing a source: {e}: {}", file.display()))?;
    // A whole file can be test code: `#![cfg(test)]`.
    Ok(if is_for_tests(&parsed.attrs) { Vec::new() } else { parsed.items })
}

/// Whether something has `#[cfg(test)]` or `#[test]`.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test ,")
        }
        _ => false,
    })
}

/// Adds the names of a `use` to `module`.
fn imports(tree: &UseTree, before: &mut Vec<String>, module: &mut Module) {
    let mut insert = |name: String, path: Vec<String>| module.imported.entry(name).or_default().push(path);
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            imports(&path.tree, before, module);
            before.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            insert(before.last().cloned().unwrap_or_default(), before.clone());
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            insert(name.clone(), before.iter().cloned().chain([name]).collect());
        }
        UseTree::Rename(rename) => {
            let path = match rename.ident.to_string().as_str() {
                "self" => before.clone(),
                name => before.iter().cloned().chain([name.to_owned()]).collect(),
            };
            insert(rename.rename.to_string(), path);
        }
        UseTree::Glob(_) => module.globs.push(before.clone()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, before, module)),
    }
}

/// The name that an item defines in its module.
fn definition(item: &Item) -> Option<(String, Kind)> {
    let (name, kind) = match item {
        Item::Const(item) => (&item.ident, Kind::Value),
        Item::Enum(item) => (&item.ident, Kind::Type),
        Item::Fn(item) => (&item.sig.ident, Kind::Value),
        Item::Macro(item) => (item.ident.as_ref()?, Kind::Value),
        Item::Static(item) => (&item.ident, Kind::Value),
        Item::Struct(item) => (&item.ident, Kind::Type),
        Item::Trait(item) => (&item.ident, Kind::Type),
        Item::TraitAlias(item) => (&item.ident, Kind::Type),
        Item::Type(item) => (&item.ident, Kind::Type),
        Item::Union(item) => (&item.ident, Kind::Type),
        _ => return None,
    };
    Some((name.to_string(), kind))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
