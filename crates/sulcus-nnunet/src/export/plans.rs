//! `plans.json` and `dataset.json` for a model of Sulcus.

use serde_json::{Map, Value, json};
use sulcus_model::{
    Activation, CoarseAxis, CropRule, Dimensions, Downsampling, Encoder, GridAxes, ModelSpec, NetworkSpec, Norm,
    Normalisation, OutputActivation, SpacingRule, Tiling,
};
use sulcus_volume::{Interpolation, Orientation};

use super::ExportError;

/// The epsilon of both normalisations, in Sulcus and in nnU-Net.
const EPSILON: f64 = 1e-5;

/// A plan, and what it cannot say.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) json: Value,
    /// `2d` or `3d_fullres`.
    pub(super) configuration: &'static str,
    pub(super) differences: Vec<String>,
}

fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> ExportError {
    ExportError::Unsupported { what: what.into(), reason: reason.into() }
}

impl Plan {
    /// # Errors
    /// [`ExportError::Unsupported`].
    pub(super) fn new(spec: &ModelSpec) -> Result<Self, ExportError> {
        let configuration = match spec.network.dimensions {
            Dimensions::Two => "2d",
            Dimensions::Three => "3d_fullres",
        };
        let mut differences = Vec::new();
        let (reader, transpose) = axes(spec.orientation)?;
        let mut backward = [0; 3];
        transpose.iter().enumerate().for_each(|(i, axis)| backward[*axis] = i);
        let (schemes, masks, properties) = normalisation(spec)?;
        let resampling = resampling(spec, &mut differences)?;
        if spec.crop == CropRule::Whole {
            differences.push(
                "nnU-Net crops every scan to its voxels that are not 0, which this model was trained without; scans without a \
                 margin of zeros are the same"
                    .to_owned(),
            );
        }
        if spec.tiling == Tiling::Whole {
            differences.push(format!(
                "Sulcus predicts whole slices or scans at once, nnU-Net with a window of {:?} voxels",
                spec.patch
            ));
        }
        if !spec.postprocessing.is_empty() {
            differences.push(
                "the model's postprocessing is not in the folder: nnU-Net's predictor keeps the mask as it is"
                    .to_owned(),
            );
        }
        let mut entries = json!({
            "data_identifier": format!("nnUNetPlans_{configuration}"),
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": spec.patch,
            "median_image_size_in_voxels": spec.patch,
            "normalization_schemes": schemes,
            "use_mask_for_norm": masks,
            "batch_dice": false,
            "architecture": architecture(&spec.network)?,
        });
        if let Some(entries) = entries.as_object_mut() {
            entries.extend(resampling);
        }
        let json = json!({
            "dataset_name": spec.name,
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
            "original_median_shape_after_transp": [1, 1, 1],
            "image_reader_writer": reader,
            "transpose_forward": transpose,
            "transpose_backward": backward,
            "configurations": {configuration: entries},
            "experiment_planner_used": spec.training.tool_version,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": properties,
        });
        Ok(Self { json, configuration, differences })
    }
}

/// The reader, and `transpose_forward`: the axes of nnU-Net's arrays are z, y, x.
fn axes(axes: GridAxes) -> Result<(&'static str, [usize; 3]), ExportError> {
    let of_file = |x: usize, y: usize, z: usize| [2 - z, 2 - y, 2 - x];
    match axes {
        GridAxes::Stored(order) => {
            let [x, y, z] = order.stored_axes();
            Ok(("SimpleITKIO", of_file(x, y, z)))
        }
        GridAxes::Anatomical(orientation) => {
            let [x, y, z] = orientation.axes().map(|axis| axis.ras_axis());
            // nnU-Net turns scans to RAS and then only lets axes change places.
            if Orientation::RAS.permuted([x, y, z]) != Some(orientation) {
                return Err(unsupported(
                    format!("it sees scans in the orientation {orientation}"),
                    "possible are R, A and S in any order",
                ));
            }
            Ok(("SimpleITKIOWithReorient", of_file(x, y, z)))
        }
        _ => Err(unsupported(
            "it sees scans along their acquired axes",
            "train with another orientation: R, A and S in any order",
        )),
    }
}

type Schemes = (Vec<&'static str>, Vec<bool>, Map<String, Value>);

fn normalisation(spec: &ModelSpec) -> Result<Schemes, ExportError> {
    let (mut schemes, mut masks, mut properties) = (Vec::new(), Vec::new(), Map::new());
    for (i, channel) in spec.channels.iter().enumerate() {
        let (scheme, [low, high], mean, sd) = match channel.normalisation {
            Normalisation::Ct { clip, mean, sd } => ("CTNormalization", clip, mean, sd),
            Normalisation::ZScore | Normalisation::ZScoreNonzero => ("ZScoreNormalization", [0.0, 1.0], 0.0, 1.0),
            Normalisation::MinMax => ("RescaleTo01Normalization", [0.0, 1.0], 0.0, 1.0),
            Normalisation::RgbTo01 => ("RGBTo01Normalization", [0.0, 1.0], 0.0, 1.0),
            Normalisation::None => ("NoNormalization", [0.0, 1.0], 0.0, 1.0),
            Normalisation::Percentile { low, high } => {
                return Err(unsupported(
                    format!("channel `{}` is scaled by its percentiles {low} and {high}", channel.name),
                    "possible are z-score, minimum and maximum, and the scheme of CT",
                ));
            }
        };
        schemes.push(scheme);
        masks.push(channel.normalisation == Normalisation::ZScoreNonzero);
        let [low, high, mean, sd] = [low, high, mean, sd].map(f64::from);
        properties.insert(
            i.to_string(),
            json!({
                "percentile_00_5": low, "percentile_99_5": high, "mean": mean, "std": sd,
                "min": low, "max": high, "median": mean,
            }),
        );
    }
    Ok((schemes, masks, properties))
}

/// The entries about voxel sizes.
fn resampling(spec: &ModelSpec, differences: &mut Vec<String>) -> Result<Map<String, Value>, ExportError> {
    let mut entries = Map::new();
    let mut add = |of: &str, function: &str, options: Value| {
        entries.insert(format!("resampling_fn_{of}"), function.into());
        entries.insert(format!("resampling_fn_{of}_kwargs"), options);
    };
    let mm = match spec.spacing {
        SpacingRule::Native => {
            ["data", "seg", "probabilities"].into_iter().for_each(|of| add(of, "no_resampling_hack", json!({})));
            [1.0; 3]
        }
        SpacingRule::Resample { mm, interpolation, coarse_axis, tolerance } => {
            let order = match interpolation {
                Interpolation::Nearest => 0,
                Interpolation::Linear => 1,
                Interpolation::Cubic => 3,
            };
            let separate = match coarse_axis {
                CoarseAxis::Nearest => Value::Null,
                CoarseAxis::AsOthers => false.into(),
            };
            for (of, is_seg, order) in [("data", false, order), ("seg", true, 1), ("probabilities", false, 1)] {
                let options =
                    json!({"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": separate});
                add(of, "resample_data_or_seg_to_shape", options);
            }
            if tolerance > 1.0 {
                differences.push(format!(
                    "nnU-Net resamples every scan to {} mm; Sulcus leaves scans within a factor of {tolerance} as they are",
                    mm.mm().map(|mm| format!("{mm:.4}")).join(" × ")
                ));
            }
            mm.mm()
        }
        SpacingRule::Nnunet(_) => {
            return Err(unsupported("it was imported from nnU-Net", "its folder is the model of nnU-Net"));
        }
    };
    let [x, y, z] = mm;
    entries.insert("spacing".to_owned(), json!([z, y, x]));
    Ok(entries)
}

/// The network as arguments of a class of dynamic-network-architectures.
fn architecture(network: &NetworkSpec) -> Result<Value, ExportError> {
    if network.imported.is_some() {
        return Err(unsupported("it was imported from nnU-Net", "its folder is the model of nnU-Net"));
    }
    let has_strides = network.stages.iter().any(|stage| stage.stride.iter().any(|stride| *stride != 1));
    if network.downsampling == Downsampling::MaxPool && has_strides {
        return Err(unsupported(
            format!("its network `{}` pools with maxima between its resolutions", network.name),
            "nnU-Net's networks have strided convolutions",
        ));
    }
    let axes = network.dimensions.count();
    let decoder: Vec<usize> =
        network.stages.iter().rev().skip(1).map(|stage| network.decoder_convolutions(stage)).collect();
    let of_stages = |value: &dyn Fn(&sulcus_model::StageConfig) -> Value| -> Vec<Value> {
        network.stages.iter().map(value).collect()
    };
    let norm = match network.norm {
        Norm::Instance => format!("torch.nn.modules.instancenorm.InstanceNorm{axes}d"),
        Norm::Batch => format!("torch.nn.modules.batchnorm.BatchNorm{axes}d"),
    };
    let (nonlin, nonlin_kwargs) = match network.activation {
        Activation::Relu => ("torch.nn.ReLU", json!({"inplace": true})),
        Activation::LeakyRelu { slope } => {
            // As a number of few digits, which has the same single-precision value.
            let slope: f64 = slope.to_string().parse().unwrap_or_else(|_| slope.into());
            ("torch.nn.LeakyReLU", json!({"inplace": true, "negative_slope": slope}))
        }
    };
    let mut arguments = json!({
        "n_stages": network.stages.len(),
        "features_per_stage": of_stages(&|stage| stage.channels.into()),
        "conv_op": format!("torch.nn.modules.conv.Conv{axes}d"),
        "kernel_sizes": of_stages(&|stage| json!(stage.kernel)),
        "strides": of_stages(&|stage| json!(stage.stride)),
        "n_conv_per_stage_decoder": decoder,
        "conv_bias": true,
        "norm_op": norm,
        "norm_op_kwargs": {"eps": EPSILON, "affine": true},
        "dropout_op": null,
        "dropout_op_kwargs": null,
        "nonlin": nonlin,
        "nonlin_kwargs": nonlin_kwargs,
    });
    let (class, blocks) = match network.encoder {
        Encoder::Plain => ("PlainConvUNet", "n_conv_per_stage"),
        Encoder::Residual => ("ResidualEncoderUNet", "n_blocks_per_stage"),
    };
    arguments[blocks] = of_stages(&|stage| stage.convolutions.into()).into();
    Ok(json!({
        "network_class_name": format!("dynamic_network_architectures.architectures.unet.{class}"),
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }))
}

/// `dataset.json`. The order of its labels is the order of the regions.
pub(super) fn dataset_json(spec: &ModelSpec) -> Result<String, ExportError> {
    let labels: Vec<(String, Value)> = match spec.activation {
        OutputActivation::Regions => {
            if spec.regions.iter().all(|region| region.values.len() == 1) {
                return Err(unsupported("each of its regions is one label", ""));
            }
            spec.regions.iter().map(|region| (region.name.clone(), json!(region.values))).collect()
        }
        _ => {
            let entries = spec.labels.entries();
            if entries.iter().enumerate().any(|(i, entry)| usize::from(entry.value) != i + 1) {
                let values: Vec<String> = entries.iter().map(|entry| entry.value.to_string()).collect();
                return Err(unsupported(
                    format!("its labels have the values {}", values.join(", ")),
                    "nnU-Net needs 1, 2, 3, … without a gap",
                ));
            }
            entries.iter().map(|entry| (entry.name.clone(), entry.value.into())).collect()
        }
    };
    let background = ("background".to_owned(), Value::from(0));
    let names = std::iter::once(background).chain(labels);
    let lines: Vec<String> = names.map(|(name, value)| format!("  {}: {value}", Value::from(name))).collect();
    let channels: Map<String, Value> = spec
        .channels
        .iter()
        .enumerate()
        .map(|(i, channel)| (i.to_string(), channel.name.clone().into()))
        .collect();
    let order = match spec.activation {
        OutputActivation::Regions => {
            let writes: Vec<_> = spec.regions.iter().map(|region| region.writes).collect();
            format!(" \"regions_class_order\": {},\n", json!(writes))
        }
        _ => String::new(),
    };
    Ok(format!(
        "{{\n \"channel_names\": {},\n \"labels\": {{\n{}\n }},\n{order} \"numTraining\": {},\n \"file_ending\": \".nii.gz\"\n}}\n",
        Value::Object(channels),
        lines.join(",\n"),
        spec.training.training_cases
    ))
}
