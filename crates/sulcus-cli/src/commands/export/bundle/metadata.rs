//! `metadata.json`, and a page about the bundle.

use serde_json::{Map, Value, json};
use sulcus_model::{ModelSpec, Normalisation, OutputActivation};

/// Where MONAI finds the schema of this file.
const SCHEMA: &str =
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json";
/// The versions with which bundles are tested.
const MONAI: &str = "1.6.1";
const PYTORCH: &str = "2.15.0";
const NUMPY: &str = "2.4.0";

pub(super) fn metadata(spec: &ModelSpec) -> Value {
    let shape: Vec<usize> = spec.patch.iter().rev().copied().collect();
    let names: Vec<String> = match spec.activation {
        OutputActivation::Softmax => std::iter::once("background".to_owned()).chain(structures(spec)).collect(),
        _ => structures(spec),
    };
    let numbered = |names: &mut dyn Iterator<Item = String>| -> Map<String, Value> {
        names.enumerate().map(|(i, name)| (i.to_string(), name.into())).collect()
    };
    let is_ct = spec.channels.iter().any(|channel| matches!(channel.normalisation, Normalisation::Ct { .. }));
    json!({
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": format!("written by sulcus {}", env!("CARGO_PKG_VERSION"))},
        "monai_version": MONAI,
        "pytorch_version": PYTORCH,
        "numpy_version": NUMPY,
        "required_packages_version": {"nibabel": "5.3.2", "onnxruntime": "1.20.0", "pytorch-ignite": "0.5.2", "scipy": "1.14.0"},
        "name": spec.name,
        "task": format!("segmentation: {}", structures(spec).join(", ")),
        "description": description(spec),
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "research; this is no medical device",
        "network_data_format": {
            "inputs": {"image": {
                "type": "image",
                "format": if is_ct { "hounsfield" } else { "magnitude" },
                "modality": spec.channels.first().map_or("", |channel| channel.name.as_str()),
                "num_channels": spec.channels.len(),
                "spatial_shape": shape,
                "dtype": "float32",
                "value_range": [],
                "is_patch_data": true,
                "channel_def": numbered(&mut spec.channels.iter().map(|channel| channel.name.clone())),
            }},
            "outputs": {"pred": {
                "type": "image",
                "format": "segmentation",
                "num_channels": spec.classes(),
                "spatial_shape": shape,
                "dtype": "float32",
                "value_range": [],
                "is_patch_data": true,
                "channel_def": numbered(&mut names.into_iter()),
            }},
        },
    })
}

fn structures(spec: &ModelSpec) -> Vec<String> {
    spec.structures().into_iter().map(|structure| structure.name).collect()
}

fn description(spec: &ModelSpec) -> String {
    let training = &spec.training;
    format!(
        "{}: {}, trained on {} cases of {}",
        spec.name, spec.network.name, training.training_cases, training.dataset
    )
}

/// A page for people.
pub(super) fn readme(spec: &ModelSpec) -> String {
    let mut differences = vec![
        "- Interpolation, cropping and the weights of overlapping windows are MONAI's; masks differ from those of `sulcus predict` in \
         some voxels at the borders of structures."
            .to_owned(),
    ];
    if !spec.postprocessing.is_empty() {
        differences.push("- The model's postprocessing (largest components) is not applied.".to_owned());
    }
    if spec.nnunet.is_some() {
        differences
            .push("- `sulcus predict --exact`, which computes as nnU-Net does, has no counterpart.".to_owned());
    }
    format!(
        "# {}\n\n{}.\n\nThe network is `models/model.onnx`. Its metadata entry `sulcus.spec` describes preprocessing and labels, and \
         `sulcus predict -m models/model.onnx` uses it as it is.\n\n## With MONAI\n\n```sh\npython -m monai.bundle run --config_file \
         configs/inference.json --dataset_dir INPUT --output_dir OUTPUT\n```\n\nINPUT holds `.nii.gz` files; where a model has several \
         channels, those of a case end in `_0000.nii.gz`, `_0001.nii.gz` and so on. It needs the packages that `metadata.json` names.\n\n\
         What is not the same:\n\n{}\n",
        spec.name,
        description(spec),
        differences.join("\n")
    )
}
