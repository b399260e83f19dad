//! The layers between the convolutions against their definitions, with every instruction set that this processor has.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod close;
mod common;
mod loss;
mod norm;
mod pool;
mod up;

use std::process::Command;
use std::sync::OnceLock;

use crate::Instructions;

/// Says which instructions a run of the tests may use at most.
const LIMIT: &str = "SULCUS_TEST_INSTRUCTIONS";

/// The widest instructions that kernels may use in this run.
pub(crate) fn limit() -> Instructions {
    static LIMIT_FOUND: OnceLock<Instructions> = OnceLock::new();
    *LIMIT_FOUND.get_or_init(|| match std::env::var(LIMIT).as_deref() {
        Ok("portable") => Instructions::Portable,
        Ok("avx2") => Instructions::Avx2,
        _ => Instructions::Avx512,
    })
}

#[test]
fn narrower_instructions_pass_the_same_tests() {
    for limit in ["portable", "avx2"] {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["tests::loss::", "tests::norm::", "tests::pool::", "tests::up::"])
            .env(LIMIT, limit)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{limit}:\n{said}");
        assert!(!said.contains(" 0 passed"), "{limit}: no test ran:\n{said}");
    }
}
