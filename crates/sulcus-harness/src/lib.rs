//! A test harness for tests that depend on the machine: ONNX Runtime, a browser, a compiler, large data.
//!
//! Rust's own harness decides before a test runs whether it is ignored. Tests of this kind find out while they run, and
//! must then count as ignored, with the reason, and never as passed. A target uses this harness as follows:
//!
//! ```toml
//! [[test]]
//! name = "engines"
//! harness = false
//! ```
//!
//! ```text
//! #[macro_use]
//! extern crate sulcus_harness;
//!
//! #[test]
//! fn valgrind_finds_no_leak() {
//!     let Some(valgrind) = find_program("valgrind") else {
//!         sulcus_harness::skip("there is no valgrind");
//!     };
//!     // …
//! }
//!
//! sulcus_harness::main!();
//! ```
//!
//! The attribute of this crate replaces Rust's `#[test]` in the whole target, so tests are written as usual. Arguments
//! and output are those of Rust's harness; the output of passing tests is not captured.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[doc(hidden)]
pub use inventory::submit;
pub use sulcus_harness_macros::test;

/// The function `main` of a target: runs every function with `#[test]`.
#[macro_export]
macro_rules! main {
    () => {
        fn main() -> ::std::process::ExitCode {
            $crate::run()
        }
    };
}

/// Ends the test, which cannot run on this machine and is reported as ignored with the reason.
///
/// # Panics
/// In a target that this harness does not run, where the test would otherwise pass.
pub fn skip(reason: impl Display) -> ! {
    require_harness();
    // Unlike a panic, this prints nothing.
    resume_unwind(Box::new(Skipped(reason.to_string())))
}

/// Records that a part of the test cannot run on this machine, for example one engine of two. The other parts run. If
/// they fail, the test fails; otherwise it is reported as ignored with the first reason that was recorded.
///
/// Call it from the test's own thread.
///
/// # Panics
/// In a target that this harness does not run, where the test would otherwise pass.
pub fn skip_part(reason: impl Display) {
    require_harness();
    PART.with_borrow_mut(|part| {
        part.get_or_insert_with(|| reason.to_string());
    });
}

/// The program of Chromium or Chrome: that of the variables `CHROME` and `SULCUS_CHROMIUM`, or the first on the search path. Without one the
/// test is skipped.
///
/// # Panics
/// As [`skip`].
pub fn chromium() -> PathBuf {
    let set = ["CHROME", "SULCUS_CHROMIUM"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let found = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    match set.chain(found).find(|path| path.is_file()) {
        Some(path) => path,
        None => skip("there is no Chromium on PATH, in CHROME or in SULCUS_CHROMIUM"),
    }
}

/// What a test function may return.
#[doc(hidden)]
pub trait Finished {
    /// Whether the test passed.
    ///
    /// # Errors
    /// The message of a failure.
    fn into_result(self) -> Result<(), String>;
}

impl Finished for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Debug> Finished for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|e| format!("{e:?}"))
    }
}

/// A function with `#[test]`.
#[doc(hidden)]
pub struct Test {
    module: &'static str,
    name: &'static str,
    run: fn() -> Result<(), String>,
}

impl Test {
    /// Called by the macro.
    pub const fn new(module: &'static str, name: &'static str, run: fn() -> Result<(), String>) -> Self {
        Self { module, name, run }
    }

    /// The path inside the target, as Rust's harness names a test.
    fn path(&self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", self.name),
            None => self.name.to_owned(),
        }
    }
}

inventory::collect!(Test);

/// The payload of the unwinding that ends a test that cannot run.
struct Skipped(String);

thread_local! {
    /// The reason why a part of the test in this thread did not run.
    static PART: RefCell<Option<String>> = const { RefCell::new(None) };
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// With Rust's harness a skipped test would pass, or fail without a message.
fn require_harness() {
    let running = RUNNING.load(Ordering::Relaxed);
    assert!(running, "a test that can be skipped needs `harness = false` and `sulcus_harness::main!()`");
}

/// Runs the tests of the target that the arguments of the process select.
#[doc(hidden)]
pub fn run() -> ExitCode {
    RUNNING.store(true, Ordering::Relaxed);
    let mut tests: Vec<&Test> = inventory::iter::<Test>().collect();
    tests.sort_by_key(|test| test.path());
    let trials = tests.into_iter().map(|test| Trial::ignorable_test(test.path(), || outcome(test.run))).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs one test and returns its outcome.
fn outcome(test: fn() -> Result<(), String>) -> Result<Completion, Failed> {
    PART.take();
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(Ok(())) => Ok(PART.take().map_or(Completion::Completed, Completion::ignored_with)),
        Ok(Err(message)) => Err(message.into()),
        Err(payload) => match payload.downcast::<Skipped>() {
            Ok(skipped) => Ok(Completion::ignored_with(skipped.0)),
            Err(payload) => Err(panic_message(payload.as_ref()).into()),
        },
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    format!("the test panicked: {}", text.unwrap_or("without a text"))
}
