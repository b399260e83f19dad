//! `inference.json`: preprocessing, network, sliding window and the way back to the scan's grid, as MONAI's transforms.
//!
//! Values that begin with `$` are Python expressions, and `@name` refers to another entry.

use serde_json::{Value, json};
use sulcus_model::{CropRule, Dimensions, GridAxes, ModelSpec, Normalisation, OutputActivation, SpacingRule};
use sulcus_volume::Interpolation;

/// The configuration.
///
/// # Errors
/// A sentence with what MONAI's transforms cannot do.
pub(super) fn config(spec: &ModelSpec) -> Result<Value, String> {
    if let Some(previous) = &spec.previous {
        return Err(format!("its network needs the mask of another one in the file, `{}`", previous.name));
    }
    let mut preprocessing = vec![
        json!({"_target_": "LoadImaged", "keys": "image"}),
        json!({"_target_": "EnsureChannelFirstd", "keys": "image"}),
        json!({"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"}),
    ];
    preprocessing.extend(orientation(spec)?);
    if spec.crop == CropRule::Nonzero {
        preprocessing.push(json!({
            "_target_": "CropForegroundd", "keys": "image", "source_key": "image",
            "select_fn": "$lambda x: x != 0", "allow_smaller": true,
        }));
    }
    preprocessing.extend(normalisation(spec)?);
    preprocessing.extend(spacing(&spec.spacing));
    // MONAI's axes are x, y, z, those of the network z, y, x.
    let (reversed, axes) = match spec.network.dimensions {
        Dimensions::Two => ("0, 1, 3, 2", 2),
        Dimensions::Three => ("0, 1, 4, 3, 2", 3),
    };
    let folds = match spec.networks {
        0 | 1 => String::new(),
        networks => format!(".unflatten(1, ({networks}, -1)).mean(1)"),
    };
    let forward = format!(
        "lambda self, x: torch.from_numpy(@session.run(['logits'], {{'image': \
         x.permute({reversed}).cpu().contiguous().numpy()}})[0]).permute({reversed}){folds}.to(x.device)"
    );
    let roi: Vec<usize> = spec.patch.iter().rev().copied().collect();
    let mut inferer = json!({
        "_target_": "SlidingWindowInferer", "roi_size": roi, "sw_batch_size": 1, "overlap": 1.0 - spec.tile_step,
        "mode": "gaussian",
    });
    if axes == 2
        && let Some(entries) = inferer.as_object_mut()
    {
        // Slices across the third axis.
        entries.insert("_target_".to_owned(), "SliceInferer".into());
        entries.insert("spatial_dim".to_owned(), 2.into());
    }
    Ok(json!({
        "imports": ["$import glob", "$import onnxruntime", "$import os", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "cases": cases(spec.channels.len()),
        "device": "$torch.device('cpu')",
        "session": "$onnxruntime.InferenceSession(os.path.join(@bundle_root, 'models', 'model.onnx'), \
                    providers=['CPUExecutionProvider'])",
        "network_def": format!("$type('OnnxNetwork', (torch.nn.Module,), {{'forward': {forward}}})()"),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing},
        "dataset": {
            "_target_": "Dataset", "data": "$[{'image': files} for files in @cases]", "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": false, "num_workers": 0,
        },
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing(spec)},
        "handlers": [],
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }))
}

/// The scans of a folder. The channels of a case are files that end in `_0000`, `_0001` and so on.
fn cases(channels: usize) -> String {
    match channels {
        1 => "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))".to_owned(),
        channels => format!(
            "$[[p[:-len('0000.nii.gz')] + '%04d.nii.gz' % c for c in range({channels})] for p in \
             sorted(glob.glob(os.path.join(@dataset_dir, '*_0000.nii.gz')))]"
        ),
    }
}

fn orientation(spec: &ModelSpec) -> Result<Option<Value>, String> {
    match spec.orientation {
        GridAxes::Anatomical(orientation) => Ok(Some(json!({
            "_target_": "Orientationd", "keys": "image", "axcodes": orientation.to_string(), "labels": null,
        }))),
        GridAxes::Stored(order) if order == sulcus_model::AxisOrder::STORED => Ok(None),
        other => Err(format!("its axes are `{other}`, and MONAI turns scans only to fixed patient axes")),
    }
}

fn normalisation(spec: &ModelSpec) -> Result<Vec<Value>, String> {
    let mut schemes = spec.channels.iter().map(|channel| channel.normalisation);
    let first = schemes.next().unwrap_or(Normalisation::None);
    if schemes.any(|scheme| scheme != first) {
        return Err("its channels are normalised in different ways, for which MONAI has no transform".to_owned());
    }
    Ok(match first {
        Normalisation::None => vec![],
        Normalisation::RgbTo01 => vec![json!({
            "_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": 0.0, "divisor": 255.0,
        })],
        Normalisation::MinMax => vec![json!({
            "_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0, "channel_wise": true,
        })],
        Normalisation::ZScore => {
            vec![json!({"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": true})]
        }
        Normalisation::ZScoreNonzero => vec![json!({
            "_target_": "NormalizeIntensityd", "keys": "image", "nonzero": true, "channel_wise": true,
        })],
        Normalisation::Percentile { low, high } => vec![json!({
            "_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": low, "upper": high,
            "b_min": 0.0, "b_max": 1.0, "clip": true, "channel_wise": true,
        })],
        Normalisation::Ct { clip: [low, high], mean, sd } => vec![
            json!({
                "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high,
                "b_min": low, "b_max": high, "clip": true,
            }),
            json!({"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": mean, "divisor": sd}),
        ],
    })
}

/// Resampling. MONAI's grid has the same first voxel as the scan, that of Sulcus the same outer faces.
fn spacing(rule: &SpacingRule) -> Option<Value> {
    /// MONAI keeps the scan's own voxel size along such an axis.
    const OWN: f64 = -1.0;
    let (mm, order): ([f64; 3], u8) = match rule {
        SpacingRule::Native => return None,
        SpacingRule::Resample { mm, interpolation, .. } => {
            let order = match interpolation {
                Interpolation::Nearest => 0,
                Interpolation::Linear => 1,
                Interpolation::Cubic => 3,
            };
            (mm.mm(), order)
        }
        SpacingRule::Nnunet(rule) => {
            let order = match rule.image.method {
                sulcus_model::ResamplingMethod::Spline { order, .. } => order,
                sulcus_model::ResamplingMethod::Interpolate => 1,
            };
            (rule.mm.map(|mm| mm.unwrap_or(OWN)), order)
        }
    };
    Some(json!({
        "_target_": "Spacingd", "keys": "image", "pixdim": mm, "mode": order, "padding_mode": "nearest",
    }))
}

/// Back to the scan's grid, then the decision and the file.
fn postprocessing(spec: &ModelSpec) -> Vec<Value> {
    let mut transforms = vec![json!({
        "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
        "nearest_interp": false, "to_tensor": true,
    })];
    // The position of a class, and the value that it writes.
    let (decision, values): (Value, Vec<u16>) = match spec.activation {
        OutputActivation::Softmax => (
            json!({"_target_": "AsDiscreted", "keys": "pred", "argmax": true}),
            spec.labels.entries().iter().map(|entry| entry.value).collect(),
        ),
        OutputActivation::Sigmoid => (
            json!({"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0}),
            spec.labels.entries().iter().map(|entry| entry.value).collect(),
        ),
        // The last region that holds a voxel is written.
        OutputActivation::Regions => (
            json!({
                "_target_": "Lambdad", "keys": "pred",
                "func": format!(
                    "$lambda x: torch.stack([torch.where(x[i] > 0, i + 1, 0) for i in range({})]).amax(0, keepdim=True)",
                    spec.regions.len()
                ),
            }),
            spec.regions.iter().map(|region| region.writes).collect(),
        ),
    };
    transforms.push(decision);
    let positions: Vec<usize> = (1..=values.len()).collect();
    if values.iter().zip(&positions).any(|(value, position)| usize::from(*value) != *position) {
        transforms.push(json!({
            "_target_": "MapLabelValued", "keys": "pred", "orig_labels": positions, "target_labels": values,
        }));
    }
    let is_large = values.iter().any(|value| *value > u16::from(u8::MAX));
    transforms.push(json!({
        "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg",
        "separate_folder": false, "resample": false, "output_dtype": if is_large { "$torch.int32" } else { "$torch.uint8" },
    }));
    transforms
}
