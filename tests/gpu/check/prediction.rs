//! Prediction with ONNX Runtime's provider for the device, against ONNX Runtime on the processor.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use sulcus_plan::DeviceChoice;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, SegmentOptions, Segmenter};
use sulcus_train::find_device;
use sulcus_volume::Image;

use crate::{Args, Failure, Outcome};

/// Maximum fraction of voxels whose labels differ.
const MAX_DIFFERING_SHARE: f64 = 1e-3;
/// Number of timed predictions after the first.
const ROUNDS: usize = 5;
/// A device number that no machine has.
const ABSENT: u32 = 99;

fn device(args: &Args) -> Result<Device, Failure> {
    match args.device {
        DeviceChoice::Cuda(index) => Ok(Device::Cuda(u32::try_from(index)?)),
        DeviceChoice::Cpu => Ok(Device::Cpu),
        other => Err(Failure::Skipped(format!("ONNX Runtime has no provider for {other}"))),
    }
}

fn library(args: &Args) -> Result<OrtLibrary, Failure> {
    let named = args.ort_library.clone().map(OrtLibrary::Path);
    named.ok_or_else(|| Failure::Skipped("no library of ONNX Runtime was named (--ort-library)".into()))
}

fn segmenter(args: &Args, model: &Path, device: Device) -> Result<Segmenter, Failure> {
    let builder = Segmenter::builder().engine(Engine::Ort).device(device).ort_library(library(args)?);
    Ok(builder.model(model).build()?)
}

/// The first scan of the data set, or the one that was named.
fn scan(args: &Args) -> Result<Image, Failure> {
    let path = match &args.scan {
        Some(path) => path.clone(),
        None => {
            let folder = args.data.join("imagesTr");
            let mut scans: Vec<PathBuf> = std::fs::read_dir(&folder)?
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_file())
                .collect();
            scans.sort();
            scans.into_iter().next().ok_or_else(|| format!("there is no scan in {}", folder.display()))?
        }
    };
    Ok(sulcus_io::read_scan(&path)?.image)
}

pub(crate) fn agree(args: &Args) -> Outcome {
    let device = device(args)?;
    let image = scan(args)?;
    let mut results = serde_json::Map::new();
    let mut text = Vec::new();
    for model in &args.models {
        let expected = segmenter(args, model, Device::Cpu)?.segment(&image, SegmentOptions::default())?;
        let start = Instant::now();
        let on_device = segmenter(args, model, device)?;
        let load = start.elapsed().as_secs_f64();
        if on_device.device() != device {
            return Err(Failure::Failed(format!("{device} was requested, {} is used", on_device.device())));
        }
        let mut times = Vec::new();
        let mut differing = 0.0_f64;
        for _ in 0..=ROUNDS {
            let start = Instant::now();
            let found = on_device.segment(&image, SegmentOptions::default())?;
            times.push(start.elapsed().as_secs_f64());
            let (found, expected) = (found.labels.data(), expected.labels.data());
            let count = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            differing = differing.max(count as f64 / expected.len() as f64);
        }
        let mut later = times.split_off(1);
        later.sort_by(f64::total_cmp);
        let median = later[later.len() / 2];
        let name = model.display().to_string();
        text.push(format!("{name}: {:.0} ms, {:.4} % of voxels differ", 1e3 * median, 100.0 * differing));
        results.insert(
            name.clone(),
            json!({ "load_s": load, "first_s": times[0], "median_s": median, "differing": differing }),
        );
        if differing > MAX_DIFFERING_SHARE {
            return Err(Failure::Failed(format!("{name}: {differing:.1e} of the voxels differ")));
        }
    }
    Ok(json!({ "summary": text.join("; "), "models": results }))
}

/// A device that does not exist must be an error, in training and in prediction.
pub(crate) fn no_fallback(args: &Args) -> Outcome {
    let absent = match args.device {
        DeviceChoice::Cuda(_) => DeviceChoice::Cuda(ABSENT as usize),
        DeviceChoice::Vulkan(_) => DeviceChoice::Vulkan(ABSENT as usize),
        other => return Err(Failure::Skipped(format!("{other} is always there"))),
    };
    let training = match find_device(absent) {
        Err(error) => error.to_string(),
        Ok((_, name)) => {
            return Err(Failure::Failed(format!("{absent} was requested, {name} is used for training")));
        }
    };
    let prediction = match (args.device, args.models.first(), &args.ort_library) {
        (DeviceChoice::Cuda(_), Some(model), Some(_)) => match segmenter(args, model, Device::Cuda(ABSENT)) {
            Err(Failure::Failed(error)) => json!(error),
            Err(Failure::Skipped(reason)) => json!({ "skipped": reason }),
            Ok(found) => {
                return Err(Failure::Failed(format!(
                    "cuda:{ABSENT} was requested, {} is used for prediction",
                    found.device()
                )));
            }
        },
        _ => json!("not tried: it needs CUDA, a model and ONNX Runtime"),
    };
    Ok(json!({ "summary": training, "training": training, "prediction": prediction }))
}
