//! Rebuilds the binary when a file of an embedded folder is added or changed.

#![allow(clippy::print_stdout, reason = "build scripts give instructions to cargo on standard output")]

fn main() {
    for folder in ["../../wasm/dist", "../../examples/data/hippocampus", "assets"] {
        println!("cargo:rerun-if-changed={folder}");
    }
}
