//! Measures the overhead of a loaded segmenter over the engine's own time: prints one line of JSON with the minimum and
//! the median of several segmentations of one scan.
//!
//! ```sh
//! cargo run --release --workspace --example held -- model.onnx scan.nii.gz [--rounds 50] [--sessions 1] [--device openvino] [--half]
//! ```

#![allow(clippy::print_stdout, reason = "its figures are its output")]

use std::error::Error;
use std::time::Instant;

use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Engine, SegmentOptions, Segmenter, peak_memory_bytes};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut files, mut rounds, mut half) = (Vec::new(), 50_usize, false);
    let mut builder = Segmenter::builder().engine(Engine::Ort).threads(2);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => rounds = value()?.parse()?,
            "--sessions" => builder = builder.sessions(value()?.parse()?),
            "--device" => builder = builder.device(value()?.parse()?),
            "--half" => half = true,
            _ => files.push(word),
        }
    }
    let [model, scan] = files.as_slice() else {
        return Err("usage: held MODEL.onnx SCAN [options], with SULCUS_ORT_LIB".into());
    };
    let library = std::env::var_os("SULCUS_ORT_LIB").ok_or("SULCUS_ORT_LIB names no library")?;
    if half {
        builder = builder.half_precision();
    }
    let begun = Instant::now();
    let segmenter = builder.model(model).ort_library(OrtLibrary::Path(library.into())).build()?;
    let load = begun.elapsed().as_secs_f64();
    let image = sulcus_io::read_scan(std::path::Path::new(scan))?.image;
    let mut runs = Vec::new();
    let mut first = None;
    for _ in 0..rounds.max(1) {
        let begun = Instant::now();
        let found = segmenter.segment(&image, SegmentOptions::default())?;
        let total = begun.elapsed().as_secs_f64();
        first.get_or_insert(total);
        runs.push((total - found.seconds.engine, total, found.seconds.engine));
    }
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let line = |(more, total, engine): &(f64, f64, f64)| serde_json::json!({"beside_engine_ms": 1e3 * more, "total_ms": 1e3 * total, "engine_ms": 1e3 * engine});
    let report = serde_json::json!({
        "load_ms": 1e3 * load,
        "first_ms": first.map(|secs| 1e3 * secs),
        "least": runs.first().map(line),
        "median": runs.get(runs.len() / 2).map(line),
        "most": runs.last().map(line),
        "peak_mb": peak_memory_bytes().map(|bytes| bytes as f64 / 1e6),
    });
    println!("{report}");
    Ok(())
}
