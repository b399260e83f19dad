//! Tests with each possible outcome. `outcomes.rs` runs this program and checks its report; run alone, it never fails.
#![allow(clippy::panic, reason = "one of the tests shows what a failure looks like")]

#[macro_use]
extern crate sulcus_harness;

/// Set by `outcomes.rs`: some tests fail only if it is set.
const FAIL: &str = "SULCUS_HARNESS_FAIL";

fn failing() -> bool {
    std::env::var_os(FAIL).is_some()
}

#[test]
fn passes() {}

#[test]
fn returns_a_result() -> Result<(), String> {
    if failing() { Err("the error of a result".to_owned()) } else { Ok(()) }
}

#[test]
fn panics() {
    if failing() {
        panic!("the message of a panic");
    }
}

mod inner {
    #[test]
    fn cannot_run() {
        if super::failing() {
            sulcus_harness::skip("there is no such program");
        }
    }

    #[test]
    fn runs_in_part() {
        if super::failing() {
            sulcus_harness::skip_part("there is no such engine");
            sulcus_harness::skip_part("a second reason");
        }
    }

    #[test]
    fn fails_in_the_other_part() {
        if super::failing() {
            sulcus_harness::skip_part("there is no such engine");
            panic!("the part that runs is wrong");
        }
    }
}

sulcus_harness::main!();
