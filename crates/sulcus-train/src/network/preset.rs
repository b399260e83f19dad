use sulcus_pipeline::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};

/// The presets' names, as the command line takes them.
pub fn preset_names() -> &'static [&'static str] {
    &["unet2d-classic", "unet2d-lite"]
}

/// The network behind a preset's name, or nothing when there is no such preset.
///
/// - `unet2d-classic`: 64–128–256–512–1024 feature maps, two 3×3 convolutions a stage, batch normalisation,
///   max-pooling; 31.0 M parameters. The structure of Ronneberger et al. 2015 with padding.
/// - `unet2d-lite`: the same from 16 feature maps on; 1.9 M parameters, for CPUs.
pub fn preset(name: &str) -> Option<NetworkSpec> {
    match name {
        "unet2d-classic" => Some(pooled_2d(name, 64)),
        "unet2d-lite" => Some(pooled_2d(name, 16)),
        _ => None,
    }
}

/// Five stages that double the feature maps and halve both axes.
fn pooled_2d(name: &str, base: usize) -> NetworkSpec {
    let stages = (0..5)
        .map(|depth: u32| StageConfig {
            channels: base << depth,
            convolutions: 2,
            kernel: vec![3, 3],
            stride: if depth == 0 { vec![1, 1] } else { vec![2, 2] },
        })
        .collect();
    NetworkSpec {
        name: name.to_owned(),
        dimensions: Dimensions::Two,
        stages,
        norm: Norm::Batch,
        activation: Activation::Relu,
        downsampling: Downsampling::MaxPool,
        encoder: Encoder::Plain,
        deep_supervision: false,
    }
}
