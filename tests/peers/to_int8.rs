//! Writes a model in 8 bits without measuring its loss of Dice, for a network with random weights that is used for speed
//! measurements. For trained models use `sulcus export --precision int8`.
//!
//! ```sh
//! cargo run --release --workspace --example to_int8 -- model.onnx scan.nii.gz int8.onnx
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use sulcus_model::{ModelSpec, Precision, QuantizationReport};
use sulcus_onnx::precision::{RangeOutput, ValueRange, calibration_model, to_int8};
use sulcus_onnx::{read_spec, with_spec};
use sulcus_pipeline::{Predictor, PredictorError, Tensor, WindowOptions, predict_logits, preprocess};
use sulcus_runtime::ort::{OrtLibrary, OrtMeasurements, find_onnx_runtime};

/// Number of tiles of the scan for the ranges, evenly spaced.
const TILES: usize = 6;

/// Measures the values between layers.
struct Measuring<'a> {
    spec: &'a ModelSpec,
    outputs: Vec<RangeOutput>,
    every: usize,
    state: Mutex<State>,
}

struct State {
    engine: OrtMeasurements,
    seen: usize,
    ranges: BTreeMap<String, ValueRange>,
}

impl Predictor for Measuring<'_> {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let failed = |message: String| PredictorError { engine: "ort", message };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen += 1;
        if (state.seen - 1).is_multiple_of(self.every) {
            let found: BTreeMap<String, f32> = state.engine.measure(&input)?.into_iter().collect();
            for output in &self.outputs {
                let ends = found.get(&output.low).zip(found.get(&output.high));
                let range = ends.and_then(|(low, high)| ValueRange::new(*low, *high));
                let range = range.ok_or_else(|| failed(format!("`{}` is not finite", output.value)))?;
                let all = state.ranges.get(&output.value).map_or(range, |all| all.union(range));
                state.ranges.insert(output.value.clone(), all);
            }
        }
        let mut shape = input.shape().to_vec();
        if let Some(channels) = shape.get_mut(1) {
            *channels = self.spec.classes();
        }
        let values = shape.iter().product();
        Tensor::new(shape, vec![0.0; values]).map_err(|e| failed(e.to_string()))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, scan, output] = arguments.as_slice() else {
        return Err("usage: to_int8 MODEL.onnx SCAN OUT.onnx, with SULCUS_ORT_LIB".into());
    };
    let library = std::env::var_os("SULCUS_ORT_LIB").ok_or("SULCUS_ORT_LIB names no library")?;
    let (runtime, _) = find_onnx_runtime(&OrtLibrary::Path(library.into()))?;
    let runtime = runtime.ok_or("there is no ONNX Runtime")?;
    let whole = std::fs::read(model)?;
    let mut spec = read_spec(&whole)?;
    let image = sulcus_io::read_scan(std::path::Path::new(scan))?.image;
    let (prepared, _) = preprocess(&spec, &image)?;
    let (graph, outputs) = calibration_model(&whole)?;
    let engine = OrtMeasurements::new(&runtime, &graph)?;
    let window = WindowOptions { step: Some(1.0), mirror: false };
    let tiles = sulcus_pipeline::count_tiles(&spec, image.geometry(), &window)?;
    let state = Mutex::new(State { engine, seen: 0, ranges: BTreeMap::new() });
    let measuring = Measuring { spec: &spec, outputs, every: tiles.div_ceil(TILES).max(1), state };
    predict_logits(&spec, &prepared, &[&measuring], &window, &mut |_| ControlFlow::Continue(()))?;
    let ranges = measuring.state.into_inner().unwrap_or_else(PoisonError::into_inner).ranges;
    let bytes = to_int8(&whole, &ranges)?;
    // One case, because a valid file needs at least one; no case was scored.
    spec.precision =
        Some(QuantizationReport { kind: Precision::Int8, dice_fp32: 0.0, dice: 0.0, cases: 1, calibration: None });
    std::fs::write(output, with_spec(&bytes, &spec)?)?;
    Ok(())
}
