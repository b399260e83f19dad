//! The specification of an imported model.

use sulcus_model::{
    AxisOrder, ChannelSpec, CropRule, Dimensions, Downsampling, Encoder, GridAxes, ImportedNetwork, MaskUse,
    ModelSpec, NetworkSpec, NnunetOrigin, NnunetResampling, NnunetSpacing, Norm, Normalisation, OutputActivation,
    PreviousNetwork, ResamplingMethod, SpacingRule, StageConfig, Tiling, Training,
};
use sulcus_volume::{Label, Orientation, Spacing};

use crate::checkpoint::CheckpointInfo;
use crate::folder::{CheckpointChoice, Fold};
use crate::plans::{
    Architecture, Block, Configuration, Dataset, PlansError, Previous, Resampling, ResamplingKind, Scheme,
};

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

/// Describes a model. `previous` is the first stage of a cascade.
///
/// # Errors
/// For what the pipeline cannot do as nnU-Net does, by its name.
pub(crate) fn model_spec(
    configuration: &Configuration,
    dataset: &Dataset,
    networks: &Networks<'_>,
    previous: Option<ModelSpec>,
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
        assumed_mm: assumed_mm(configuration)?,
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
        previous: previous_network(configuration, dataset, previous)?,
    };
    spec.format_version = spec.min_format_version();
    spec.check().map_err(|e| PlansError::Contradiction { reason: e.to_string() })?;
    Ok(spec)
}

/// The first stage of a cascade, and how the second one sees its mask.
fn previous_network(
    configuration: &Configuration,
    dataset: &Dataset,
    spec: Option<ModelSpec>,
) -> Result<Option<Box<PreviousNetwork>>, PlansError> {
    let Some((spec, Previous { configuration, mask })) = spec.zip(configuration.previous.as_ref()) else {
        return Ok(None);
    };
    let labels = mask_labels(dataset);
    let mask = MaskUse::InputChannels { labels, resampling: resampling(*mask)? };
    Ok(Some(Box::new(PreviousNetwork { name: configuration.clone(), spec, mask })))
}

/// The labels of a mask that the second stage of a cascade sees, in the order of its input channels.
pub(crate) fn mask_labels(dataset: &Dataset) -> Vec<Label> {
    let mut labels: Vec<Label> = dataset.labels.labels.entries().iter().map(|entry| entry.value).collect();
    labels.sort_unstable();
    labels
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
        "SimpleITKIO" | "NibabelIO" | PICTURES | TIFF | "" => Ok(GridAxes::Stored(order)),
        other => {
            Err(PlansError::unsupported(format!("the reader `{other}`"), "it is not one of nnU-Net's own readers"))
        }
    }
}

/// nnU-Net's readers of pictures: of a single one, and of the pages of a TIFF.
const PICTURES: &str = "NaturalImage2DIO";
const TIFF: &str = "Tiff3DIO";

/// The readers of pictures ignore what a file states. That of TIFF takes voxel sizes from JSON files beside the scans, if there are any.
fn assumed_mm(configuration: &Configuration) -> Result<Option<Spacing>, PlansError> {
    let along_xyz = match configuration.reader.as_str() {
        PICTURES => [1.0, 1.0, 999.0],
        TIFF => [1.0; 3],
        _ => return Ok(None),
    };
    let is_one = |mm: &f64| *mm == 1.0;
    if configuration.reader == TIFF && !configuration.median_spacing.iter().all(is_one) {
        return Err(PlansError::unsupported(
            format!("the reader `{TIFF}` with voxel sizes"),
            format!(
                "its training scans had voxels of {:?}, which nnU-Net reads from JSON files beside the scans; only scans without such \
                 files, whose voxels count as 1, can be predicted",
                configuration.median_spacing
            ),
        ));
    }
    Ok(Spacing::new(along_xyz).ok())
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
