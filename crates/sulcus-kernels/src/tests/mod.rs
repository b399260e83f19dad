//! Tests of the layers other than convolutions against their definitions, on every instruction set of this processor.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod close;
mod common;
mod conv_transpose;
mod loss;
mod norm;
mod optimizer;
mod pool;

use std::process::Command;
use std::sync::OnceLock;

use crate::{InstructionSet, instruction_set};
pub(crate) use close::assert_close;
pub(crate) use common::{assert_same_on_any_threads, bits, noise};

/// The environment variable with the widest instruction set that a run of the tests may use.
const LIMIT_VARIABLE: &str = "SULCUS_TEST_INSTRUCTIONS";

/// The widest instruction set that kernels may use in this run.
pub(crate) fn max_instruction_set() -> InstructionSet {
    static LIMIT: OnceLock<InstructionSet> = OnceLock::new();
    *LIMIT.get_or_init(|| match std::env::var(LIMIT_VARIABLE).as_deref() {
        Ok("portable") => InstructionSet::Portable,
        Ok("avx2") => InstructionSet::Avx2,
        Ok("avx512") => InstructionSet::Avx512,
        _ => InstructionSet::Amx,
    })
}

/// The instruction sets that this processor can run.
pub(crate) fn available() -> Vec<InstructionSet> {
    let widest = instruction_set().min(max_instruction_set());
    let all = [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512, InstructionSet::Amx];
    all.into_iter().filter(|set| *set <= widest).collect()
}

#[test]
fn narrower_instruction_sets_pass_the_same_tests() {
    for limit in ["portable", "avx2"] {
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["tests::loss::", "tests::norm::", "tests::pool::", "tests::conv_transpose::"])
            .env(LIMIT_VARIABLE, limit)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{limit}:\n{output}");
        assert!(!output.contains(" 0 passed"), "{limit}: no test ran:\n{output}");
    }
}
