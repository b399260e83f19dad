//! `include/sulcus.h` is what cbindgen makes of the sources, and the library exports that and no more.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::common::repository;
use crate::programs::library;

/// In the order of the header; what C sees of the other files is nothing.
const SOURCES: [&str; 9] =
    ["version", "status", "border", "options", "segmenter", "scan", "image", "segment", "segmentation"];

#[test]
fn the_header_is_made_of_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, name| {
        builder.with_src(folder.join("src").join(format!("{name}.rs")))
    });
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();

    let path = folder.join("include/sulcus.h");
    if std::env::var_os("SULCUS_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        committed == made,
        "crates/sulcus-capi/include/sulcus.h is not what cbindgen makes of the sources: run this test with \
         SULCUS_BLESS=1 and commit the header"
    );
}

#[test]
fn every_source_with_an_entry_goes_into_the_header() {
    let entries = std::fs::read_dir(repository().join("crates/sulcus-capi/src")).unwrap();
    let with_entries: BTreeSet<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("#[unsafe(no_mangle)]"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(with_entries, SOURCES.map(str::to_owned).into());
}

#[test]
fn the_library_exports_the_header_and_nothing_else() {
    if !cfg!(target_os = "linux") {
        sulcus_harness::skip("nm lists exported symbols in this form on Linux alone");
    }
    let Ok(output) = Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library()).output()
    else {
        sulcus_harness::skip("there is no nm");
    };
    assert!(output.status.success());
    let exported: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect();
    let header = include_str!("../../include/sulcus.h");
    assert!(exported.len() > 30, "{exported:?}");
    for name in exported {
        assert!(name.starts_with("sulcus_") && header.contains(&format!("{name}(")), "{name} is exported");
    }
}
