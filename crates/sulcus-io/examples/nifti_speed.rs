//! Times one reading of a scan and one writing of a mask, for `tests/peers/nifti_speed.py`, which does the same with
//! nibabel in turn: `nifti_speed SCAN MASK OUT`.
#![allow(clippy::print_stdout, reason = "the other program reads it")]

use std::path::Path;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let [scan, mask, out] = names.as_slice() else { return Err("nifti_speed SCAN MASK OUT".into()) };
    // The threads that a program has running anyway.
    rayon::ThreadPoolBuilder::new().build_global()?;
    let start = Instant::now();
    let read = sulcus_io::read_scan(Path::new(scan))?;
    println!("read {}", start.elapsed().as_secs_f64());
    let sum: f32 = read.image.data().iter().sum();
    assert!(sum.is_finite(), "a scan of finite values");
    let (labels, source) = sulcus_io::read_labels(Path::new(mask))?;
    let start = Instant::now();
    sulcus_io::write_labels(Path::new(out), &labels, &source, &sulcus_volume::LabelTable::default())?;
    println!("write {}", start.elapsed().as_secs_f64());
    Ok(())
}
