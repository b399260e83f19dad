use std::collections::BTreeSet;
use std::path::Path;

use super::{Known, circles, compare, modules, references};

/// The circles in a crate with these files, as file names separated by spaces.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let program = modules::Crate::read(&folder.path().join("lib.rs")).unwrap();
    let found = circles::find(&program, &references::edges(&program));
    found.into_iter().map(|circle| circle.relative_to(folder.path()).name()).collect()
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn two_files_that_import_from_each_other_are_a_circle() {
    let root = ("lib.rs", "mod a; mod b;");
    let found = circles_of(&[
        root,
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use super::a::A; pub struct B;"),
    ]);
    assert_eq!(found, ["a.rs b.rs"]);
    let one_way = circles_of(&[root, ("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", "pub struct B;")]);
    assert_eq!(one_way, none());
}

#[test]
fn re_export_is_followed_to_the_defining_file() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod b; mod c; pub use a::A; pub use c::*;"),
        ("a.rs", "use crate::B; pub struct A;"),
        ("b.rs", "use crate::A; pub struct Other;"),
        ("c.rs", "pub use crate::b::Other as B;"),
    ]);
    assert_eq!(found, ["a.rs b.rs"]);
}

#[test]
fn module_and_its_children_may_import_from_each_other() {
    let found = circles_of(&[
        ("lib.rs", "mod a; pub struct Root; use a::deep::Deep;"),
        ("a/mod.rs", "pub mod deep; use deep::Deep; pub struct A;"),
        ("a/deep.rs", "use super::A; use crate::Root; pub struct Deep;"),
    ]);
    assert_eq!(found, none());
}

#[test]
fn siblings_are_connected_by_names_of_their_parent() {
    let found = circles_of(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod x; mod y; use x::X; use y::Y;"),
        ("a/x.rs", "use super::*; pub struct X; fn f(_: Y) {}"),
        ("a/y.rs", "use super::X; pub struct Y;"),
    ]);
    assert_eq!(found, ["a/x.rs a/y.rs"]);
}

#[test]
fn paths_in_expressions_macros_and_attributes_are_found() {
    let root = ("lib.rs", "mod a; mod b;");
    let b = ("b.rs", "use crate::a::A; pub fn make() {} pub mod text { pub fn read() {} }");
    for a in [
        "pub struct A; fn f() { crate::b::make() }",
        "pub struct A; fn f() { println!(\"{:?}\", crate::b::make()) }",
        "pub struct A; fn f() { use crate::b::make; make() }",
        "use crate::b; pub struct A; fn f() { b::make() }",
        "#[derive(Deserialize)] pub struct A { #[serde(with = \"crate::b::text\")] x: u8 }",
    ] {
        assert_eq!(circles_of(&[root, ("a.rs", a), b]), ["a.rs b.rs"], "{a}");
    }
}

#[test]
fn test_code_is_ignored() {
    let root = ("lib.rs", "mod a; mod b; #[cfg(test)] mod missing;");
    let b = ("b.rs", "use crate::a::A; pub struct B;");
    for a in [
        "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        "pub struct A; #[cfg(test)] use crate::b::B;",
        "pub struct A; #[test] fn works() { crate::b::B; }",
    ] {
        assert_eq!(circles_of(&[root, ("a.rs", a), b]), none(), "{a}");
    }
}

#[test]
fn names_of_other_crates_and_local_variables_are_ignored() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod serde_like; use serde_like::S;"),
        (
            "a.rs",
            "use std::fmt; use other::serde_like::X; pub struct A; fn f() { let serde_like = 1; g(serde_like) }",
        ),
        ("serde_like.rs", "use crate::a::A; pub struct S;"),
    ]);
    assert_eq!(found, none());
}

#[test]
fn function_and_module_with_the_same_name_are_distinguished() {
    let found = circles_of(&[
        ("lib.rs", "mod a; mod plan; mod setup; pub use setup::plan;"),
        ("a.rs", "use crate::plan::Plan; pub struct A;"),
        ("plan.rs", "pub struct Plan;"),
        ("setup.rs", "use crate::a::A; pub fn plan() {}"),
    ]);
    assert_eq!(found, none());
}

#[test]
fn longer_circle_is_reported_with_the_used_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::{a::A, d::D}; pub struct C;"),
        ("d.rs", "pub struct D;"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let program = modules::Crate::read(&folder.path().join("lib.rs")).unwrap();
    let found = circles::find(&program, &references::edges(&program));
    let found: Vec<_> = found.into_iter().map(|circle| circle.relative_to(folder.path())).collect();
    assert_eq!(
        found[0].to_string(),
        "these files import from each other: a.rs b.rs c.rs\n    a.rs uses B of b.rs, which uses C of c.rs, which uses A of a.rs"
    );
}

#[test]
fn known_circle_is_accepted_and_outdated_entry_is_refused() {
    let found = BTreeSet::from(["a.rs b.rs".to_owned(), "c.rs d.rs".to_owned()]);
    let known = Known::parse("# why\n\ncircle: a.rs b.rs\ncircle: e.rs f.rs\nlong: g.rs\n").unwrap();
    assert_eq!(known.circles, BTreeSet::from(["a.rs b.rs".to_owned(), "e.rs f.rs".to_owned()]));
    assert_eq!(known.long, BTreeSet::from(["g.rs".to_owned()]));
    let (new, gone) = compare(&found, &known.circles);
    assert_eq!((new, gone), (vec!["c.rs d.rs"], vec!["e.rs f.rs"]));
    assert!(Known::parse("a.rs b.rs\n").is_err());
}

#[test]
fn module_without_a_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lib.rs"), "mod missing;").unwrap();
    let error = modules::Crate::read(&folder.path().join("lib.rs")).err().unwrap();
    assert!(error.contains("the module `missing` has no file"), "{error}");
    assert!(modules::Crate::read(Path::new("/no/such/lib.rs")).is_err());
}
