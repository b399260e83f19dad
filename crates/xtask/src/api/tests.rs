use std::collections::BTreeSet;

use super::{compare, public_items};
use crate::imports::modules::Crate;

/// The public items of a crate named `kit` with these files.
fn items(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let program = Crate::read(&folder.path().join("lib.rs")).unwrap();
    public_items(&program, "kit").into_iter().collect()
}

#[test]
fn re_exported_items_are_listed_and_private_ones_are_not() {
    let found = items(&[
        (
            "lib.rs",
            "mod a; pub mod open; pub use a::{Shown, read as load}; pub use other::Foreign; fn private() {}",
        ),
        (
            "a.rs",
            "pub struct Shown { pub size: [u8; 3], hidden: u8 } pub struct Inner; pub fn read(path: &str) -> Option<Shown> { None }",
        ),
        ("open.rs", "pub const MAX: usize = 1; pub(crate) fn inside() {}"),
    ]);
    assert_eq!(
        found,
        [
            "pub const kit::open::MAX: usize",
            "pub fn kit::load(path: &str) -> Option<Shown>",
            "pub kit::Shown::size: [u8; 3]",
            "pub mod kit::open",
            "pub struct kit::Shown",
            "pub use kit::Foreign = other::Foreign",
        ]
    );
}

#[test]
fn functions_and_traits_of_a_public_type_are_listed_from_all_modules() {
    let found = items(&[
        ("lib.rs", "mod a; mod b; pub use a::A; pub use b::Run;"),
        (
            "a.rs",
            "#[derive(Clone, Debug)] #[non_exhaustive] pub enum A { One, Two(u8), Three { at: u8 } } struct Private;",
        ),
        (
            "b.rs",
            "use crate::A; /// Docs.\n pub trait Run: Send { /// Docs.\n fn run(&mut self) -> (u8, A); fn twice(&mut self) {} }\n\
             impl A { pub fn new<T: Into<u8>>(mut of: T) -> Result<Self, String> where T: Copy { loop {} } fn private() {} }\n\
             impl Run for A { fn run(&mut self) -> (u8, A) { loop {} } }\n\
             impl From<A> for u8 { fn from(_: A) -> u8 { 0 } }",
        ),
    ]);
    assert_eq!(
        found,
        [
            "#[non_exhaustive] pub enum kit::A",
            "impl Clone for kit::A",
            "impl Debug for kit::A",
            "impl Run for kit::A",
            "pub fn kit::A::new<T: Into<u8>>(of: T) -> Result<Self, String> where T: Copy",
            "pub fn kit::Run::run(&mut self) -> (u8, A)",
            "pub fn kit::Run::twice(&mut self) { … }",
            "pub kit::A::One",
            "pub kit::A::Three { at: u8 }",
            "pub kit::A::Two(u8)",
            "pub trait kit::Run: Send",
        ]
    );
}

#[test]
fn a_renamed_re_export_of_a_re_export_is_followed() {
    let found = items(&[
        ("lib.rs", "mod a; mod b; pub use b::*;"),
        ("a.rs", "pub struct Inner; impl Inner { pub fn go(&self) {} }"),
        ("b.rs", "pub use crate::a::Inner as Outer;"),
    ]);
    assert_eq!(found, ["pub fn kit::Outer::go(&self)", "pub struct kit::Outer"]);
}

#[test]
fn a_removed_and_an_added_item_are_named() {
    let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<BTreeSet<_>>();
    let found = compare(&set(&["pub fn a()", "pub fn b()"]), &set(&["pub fn b()", "pub fn c(u8)"]));
    assert_eq!(found, ["- pub fn a()", "+ pub fn c(u8)"]);
    assert_eq!(compare(&set(&["pub fn a()"]), &set(&["pub fn a()"])), Vec::<String>::new());
}
