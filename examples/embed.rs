//! Segments a scan from another program.
//!
//! `cargo run --release -p sulcus-examples --bin embed -- SCAN.nii.gz MASK.nii.gz`
#![allow(clippy::print_stdout, reason = "an example prints")]

use sulcus_runtime::Segmenter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args().skip(1);
    let (Some(scan), Some(mask)) = (paths.next(), paths.next()) else {
        return Err("two paths are needed: the scan to read and the mask to write".into());
    };
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/hippocampus/model.onnx");
    let segmenter = Segmenter::builder().model(model).build()?;
    let segmentation = segmenter.segment_file(scan, mask)?;
    println!("{} on {}", segmentation.engine, segmentation.device);
    for label in segmentation.label_volumes() {
        // A picture whose pixels have no size has no volumes.
        let ml = label.ml.map_or("unknown".into(), |ml| format!("{ml:.2} ml"));
        println!("{}: {} voxels, {ml}", label.name, label.voxels);
    }
    Ok(())
}
