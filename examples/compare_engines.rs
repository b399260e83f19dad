//! Segments one scan with all engines and compares their results and times.
//!
//! `cargo run --release -p sulcus-examples --bin compare_engines -- SCAN.nii.gz [LIBRARY]`
//!
//! LIBRARY is the path of an ONNX Runtime library [default: searched in the default locations].
#![allow(clippy::print_stdout, reason = "an example prints")]

use sulcus_metrics::count_labels;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Engine, SegmentOptions, Segmentation, Segmenter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let scan = arguments.next().ok_or("a path is needed: the scan to read")?;
    let library = arguments.next();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/hippocampus/model.onnx");
    let image = sulcus_io::read_scan(scan.as_ref())?.image;

    let mut answers: Vec<Segmentation> = Vec::new();
    for engine in [Engine::Tract, Engine::Native, Engine::Ort] {
        let mut builder = Segmenter::builder().model(model).engine(engine);
        if let Some(library) = &library {
            builder = builder.ort_library(OrtLibrary::Path(library.into()));
        }
        let segmenter = match builder.build() {
            Ok(segmenter) => segmenter,
            Err(reason) => {
                println!("{engine}: not available ({reason})");
                continue;
            }
        };
        // The first run includes the engine's preparation for a new input shape, which a long-lived segmenter does only once.
        segmenter.segment(&image, SegmentOptions::default())?;
        let answer = segmenter.segment(&image, SegmentOptions::default())?;
        println!("{engine}: {:.3} s in the engine, {} tiles", answer.seconds.engine, answer.tiles);
        answers.push(answer);
    }
    let Some((first, others)) = answers.split_first() else { return Ok(()) };
    for other in others {
        let differing = first.labels.data().iter().zip(other.labels.data()).filter(|(a, b)| a != b).count();
        println!(
            "{} and {}: {differing} of {} voxels differ",
            first.engine,
            other.engine,
            image.geometry().voxels()
        );
        let values: Vec<u16> = first.table.entries().iter().map(|e| e.value).collect();
        let counts = count_labels(&first.labels, &other.labels, &values)?;
        for (entry, counts) in first.table.entries().iter().zip(counts) {
            println!("  {}: Dice between the engines {:.4}", entry.name, counts.dice().unwrap_or(f64::NAN));
        }
    }
    Ok(())
}
