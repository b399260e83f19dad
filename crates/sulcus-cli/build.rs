//! Folders that the binary carries: a file that appears in one of them makes it be built again.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

fn main() {
    for folder in ["../../wasm/dist", "../../examples/data/hippocampus", "assets"] {
        println!("cargo:rerun-if-changed={folder}");
    }
}
