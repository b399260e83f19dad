//! Converts the shipped model to Rust code and a file of weights, which are both compiled into the program.

use burn_onnx::{LoadStrategy, ModelGen};

fn main() {
    ModelGen::new()
        .input("../../models/hippocampus/model.onnx")
        .out_dir("model/")
        .load_strategy(LoadStrategy::Bytes)
        .run_from_script();
}
