//! The specification of an imported model.

use sulcus_model::{
    AxisOrder, ChannelSpec, CropRule, Dimensions, Downsampling, Encoder, GridAxes, ImportedNetwork, ModelSpec,
    NetworkSpec, NnunetOrigin, NnunetResampling, NnunetSpacing, Norm, Normalisation, OutputActivation,
    ResamplingMethod, SpacingRule, StageConfig, Tiling, Training,
};
use sulcus_volume::Orientation;

use crate::checkpoint::CheckpointInfo;
use crate::folder::{CheckpointChoice, Fold};
use crate::plans::{Architecture, Block, Configuration, Dataset, PlansError, Resampling, ResamplingKind, Scheme};

/// The step of nnU-Net's window: half a patch.
const TILE_STEP: f64 = 0.5;

/// The networks of a model file.
pub(crate) struct Networks<'a> {
    /// The first checkpoint says what holds for all.
    pub(crate) info: &'a CheckpointInfo,
    pub(crate) folds: &'a [Fold],
    pub(crate) choice: CheckpointChoice,
    /// SHA-256 of each checkpoint.
    pub(crate) sha256: Vec<String>,
    /// Whether the networks have batch normalisation.
    pub(crate) has_batch_norm: bool,
}

/// Describes a model.
///
/// # Errors
/// For what the pipeline cannot do as nnU-Net does, by its name.
pub(crate) fn model_spec(
    configuration: &Configuration,
    dataset: &Dataset,
    networks: &Networks<'_>,
) -> Result<ModelSpec, PlansError> {
    let architecture = &configuration.architecture;
    let has_regions = !dataset.labels.regions.is_empty();
    let name = match configuration.dataset.as_str() {
        "" => architecture.class.clone(),
        name => name.to_owned(),
    };
    let channel = |(name, scheme): (&String, &Scheme)| ChannelSpec {
        name: name.clone(),
        normalisation: normalisation(*scheme),
    };
    let mut spec = ModelSpec {
        format_version: 0,
        name: name.clone(),
        network: network_spec(architecture, networks),
        channels: dataset.channels.iter().zip(&configuration.schemes).map(channel).collect(),
        labels: dataset.labels.labels.clone(),
        regions: dataset.labels.regions.clone(),
        activation: if has_regions { OutputActivation::Regions } else { OutputActivation::Softmax },
        networks: networks.folds.len(),
        crop: CropRule::Nonzero,
        orientation: orientation(configuration)?,
        spacing: spacing(configuration)?,
        patch: configuration.patch.clone(),
        tiling: Tiling::CentredPatch,
        tile_step: TILE_STEP,
        mirror_axes: mirror_axes(networks.info, architecture.dimensions)?,
        padding_multiple: architecture.padding_multiple(),
        postprocessing: Vec::new(),
        training: Training {
            tool_version: format!("nnU-Net v2 ({})", networks.info.trainer),
            dataset: name.clone(),
            data_sha256: String::new(),
            training_cases: dataset.training_cases,
            validation_cases: 0,
            validation_dice: None,
            epochs: networks.info.epochs,
            seed: 0,
        },
        nnunet: Some(NnunetOrigin {
            dataset: name,
            trainer: networks.info.trainer.clone(),
            plans: configuration.plan.clone(),
            configuration: networks.info.configuration.clone(),
            folds: networks.folds.iter().map(Fold::to_string).collect(),
            checkpoint: networks.choice.name().to_owned(),
        }),
        training_scans: None,
        precision: None,
        unchecked: None,
        golden_case: None,
    };
    spec.format_version = spec.min_format_version();
    spec.check().map_err(|e| PlansError::Contradiction { reason: e.to_string() })?;
    Ok(spec)
}

fn network_spec(architecture: &Architecture, networks: &Networks<'_>) -> NetworkSpec {
    let stages = architecture.stages.iter().map(|stage| StageConfig {
        channels: stage.features,
        convolutions: stage.blocks,
        kernel: stage.kernel.clone(),
        stride: stage.stride.clone(),
    });
    NetworkSpec {
        name: architecture.class.clone(),
        dimensions: architecture.dimensions,
        stages: stages.collect(),
        norm: if networks.has_batch_norm { Norm::Batch } else { Norm::Instance },
        activation: architecture.activation,
        downsampling: Downsampling::StridedConvolution,
        encoder: match architecture.block {
            Block::Plain => Encoder::Plain,
            Block::Basic | Block::Bottleneck => Encoder::Residual,
        },
        deep_supervision: false,
        imported: Some(ImportedNetwork {
            class: architecture.class.clone(),
            checkpoints_sha256: networks.sha256.clone(),
            decoder_convolutions: architecture.decoder.iter().rev().copied().collect(),
            bottleneck_channels: architecture.stages.iter().filter_map(|stage| stage.bottleneck).collect(),
        }),
    }
}

fn normalisation(scheme: Scheme) -> Normalisation {
    match scheme {
        Scheme::Ct { clip, mean, sd } => {
            Normalisation::Ct { clip: clip.map(|value| value as f32), mean: mean as f32, sd: sd as f32 }
        }
        Scheme::ZScore { inside_nonzero: true } => Normalisation::ZScoreNonzero,
        Scheme::ZScore { inside_nonzero: false } => Normalisation::ZScore,
        Scheme::None => Normalisation::None,
        Scheme::RescaleTo01 => Normalisation::MinMax,
        Scheme::RgbTo01 => Normalisation::RgbTo01,
    }
}

fn orientation(configuration: &Configuration) -> Result<GridAxes, PlansError> {
    let order = AxisOrder::of_transpose_forward(configuration.transpose)
        .ok_or_else(|| PlansError::unsupported("`transpose_forward`", "it must name each axis once"))?;
    match configuration.reader.as_str() {
        // Scans are turned to RAS, then their axes change places.
        "SimpleITKIOWithReorient" | "NibabelIOWithReorient" => {
            Ok(Orientation::RAS.permuted(order.stored_axes()).unwrap_or(Orientation::RAS).into())
        }
        // No reader is named in plans of the first versions.
        "SimpleITKIO" | "NibabelIO" | "" => Ok(GridAxes::Stored(order)),
        "NaturalImage2DIO" | "Tiff3DIO" => Err(PlansError::unsupported(
            format!("the reader `{}`", configuration.reader),
            "models of pictures cannot be imported yet",
        )),
        other => {
            Err(PlansError::unsupported(format!("the reader `{other}`"), "it is not one of nnU-Net's own readers"))
        }
    }
}

fn spacing(configuration: &Configuration) -> Result<SpacingRule, PlansError> {
    let (image, logits) = (configuration.image, configuration.logits);
    match (image.kind, logits.kind) {
        (ResamplingKind::None, ResamplingKind::None) => return Ok(SpacingRule::Native),
        (ResamplingKind::None, _) | (_, ResamplingKind::None) => {
            return Err(PlansError::unsupported(
                "resampling of only the image or only the logits",
                "the plan must resample both or none",
            ));
        }
        _ => {}
    }
    let mut mm = [None; 3];
    // The last axis is x; slices have no spacing along z.
    mm.iter_mut().zip(configuration.spacing.iter().rev()).for_each(|(to, from)| *to = Some(*from));
    Ok(SpacingRule::Nnunet(NnunetSpacing { mm, image: resampling(image)?, logits: resampling(logits)? }))
}

fn resampling(rule: Resampling) -> Result<NnunetResampling, PlansError> {
    let order = |order: usize| {
        u8::try_from(order)
            .map_err(|_| PlansError::unsupported(format!("a spline of order {order}"), "it is too high"))
    };
    let method = match rule.kind {
        ResamplingKind::Splines => {
            ResamplingMethod::Spline { order: order(rule.order)?, order_z: order(rule.order_z)? }
        }
        ResamplingKind::Torch | ResamplingKind::None => ResamplingMethod::Interpolate,
    };
    Ok(NnunetResampling { method, separate_z: rule.separate_z, anisotropy_threshold: rule.threshold })
}

fn mirror_axes(info: &CheckpointInfo, dimensions: Dimensions) -> Result<Vec<usize>, PlansError> {
    let axes = dimensions.count();
    if info.mirror_axes.iter().any(|axis| *axis >= axes) {
        return Err(PlansError::Contradiction {
            reason: format!("the checkpoint mirrors along axes {:?} of {axes}", info.mirror_axes),
        });
    }
    Ok(info.mirror_axes.clone())
}
