//! Runs the commands of README.md, examples/README.md and examples/retina/README.md in order, and compares their output with the pages.
//!
//! `trycmd` runs such pages too, but compares the output literally: a page would have to contain `[..]` in place of each
//! time, score and path. Here, values that vary are replaced in both the page and the output before the comparison
//! (`mask.rs`), so that pages show real output. `SULCUS_BLESS=1` writes the output into the pages.
//!
//! A comment before a block determines its treatment:
//!
//! - `<!-- test: numbers vary -->`: only numbers that do not depend on the training time are compared.
//! - `<!-- test: not run, REASON -->`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

#[macro_use]
extern crate sulcus_harness;

mod mask;
mod page;
mod session;

use std::path::{Path, PathBuf};

use page::{Page, Treatment};
use session::Session;

/// The project's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// Runs the commands of a page and compares what they print.
fn check(name: &str) {
    let path = root().join(name);
    let mut page = Page::parse(&std::fs::read_to_string(&path).unwrap());
    let bless = std::env::var_os("SULCUS_BLESS").is_some_and(|value| !value.is_empty());
    let mut session = Session::new(!bless);
    let mut differences = Vec::new();
    for block in &mut page.blocks {
        for step in &mut block.steps {
            let printed = match &block.treatment {
                Treatment::NotRun => {
                    session.stand_in_for(&step.command);
                    continue;
                }
                Treatment::Exact | Treatment::NumbersVary => session.run(&step.command, step.output.len()),
            };
            let Some(printed) = printed else { continue };
            let masks = mask::Masks::new(&session, block.treatment == Treatment::NumbersVary);
            if page::matches(&masks.apply(&step.output), &masks.apply(&printed)) {
                continue;
            }
            if bless {
                let printed = page::with_gaps_of(&step.output, masks.paths(&printed));
                step.output =
                    page::keeping_equal_lines(&step.output, printed, |line| masks.apply(&[line.to_owned()]));
            } else {
                differences.push(format!(
                    "$ {}\n--- the page, masked\n{}\n--- the command prints, masked\n{}\n",
                    step.command,
                    masks.apply(&step.output).join("\n"),
                    masks.apply(&printed).join("\n")
                ));
            }
        }
    }
    if bless {
        std::fs::write(&path, page.to_string()).unwrap();
    }
    assert!(
        differences.is_empty(),
        "{name} shows output that differs from that of its commands. Run this test with SULCUS_BLESS=1 to write it.\n{}",
        differences.join("\n")
    );
}

#[test]
fn readme_shows_what_its_commands_print() {
    check("README.md");
}

#[test]
fn examples_readme_shows_what_its_commands_print() {
    check("examples/README.md");
}

#[test]
fn retina_readme_shows_what_its_commands_print() {
    check("examples/retina/README.md");
}

sulcus_harness::main!();
