//! `include/sulcus.h` is what cbindgen generates from the sources, and the library exports exactly its functions.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::common::repository;
use crate::programs::library;

/// In the order of the header. The other files have nothing that C can see.
const SOURCES: [&str; 9] =
    ["version", "ffi", "status", "options", "segmenter", "scan", "image", "segment", "segmentation"];

#[test]
fn header_is_generated_from_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, name| {
        builder.with_src(folder.join("src").join(format!("{name}.rs")))
    });
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();

    let path = folder.join("include/sulcus.h");
    if std::env::var_os("SULCUS_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        committed == generated,
        "crates/sulcus-capi/include/sulcus.h is not what cbindgen generates from the sources: run this test with \
         SULCUS_BLESS=1 and commit the header"
    );
}

#[test]
fn every_source_with_an_exported_function_goes_into_the_header() {
    let entries = std::fs::read_dir(repository().join("crates/sulcus-capi/src")).unwrap();
    let exporting: BTreeSet<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("#[unsafe(no_mangle)]"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(exporting, SOURCES.map(str::to_owned).into());
}

#[test]
fn library_exports_the_functions_of_the_header_only() {
    if !cfg!(target_os = "linux") {
        sulcus_harness::skip("nm lists exported symbols in this form only on Linux");
    }
    let Ok(output) = Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library()).output()
    else {
        sulcus_harness::skip("nm is not installed");
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
