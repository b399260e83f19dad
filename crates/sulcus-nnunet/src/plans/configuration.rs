use serde_json::{Map, Value};
use sulcus_model::Dimensions;

use super::json::{Json, parse};
use super::{Architecture, PlansError};

/// A `plans.json`.
#[derive(Debug, Clone)]
pub(crate) struct Plans {
    value: Value,
}

/// How a channel's intensities are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scheme {
    /// Clipped to the percentiles of the data set's foreground, then its mean and standard deviation.
    Ct {
        clip: [f64; 2],
        mean: f64,
        sd: f64,
    },
    ZScore {
        inside_nonzero: bool,
    },
    None,
    /// Minimum to 0, maximum to 1.
    RescaleTo01,
    /// Divided by 255.
    RgbTo01,
}

/// The function that resamples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResamplingKind {
    /// `resample_data_or_seg_to_shape`: splines.
    Splines,
    /// `resample_torch_fornnunet`: PyTorch's linear interpolation.
    Torch,
    /// `no_resampling_hack`.
    None,
}

/// How images or logits are resampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Resampling {
    pub(crate) kind: ResamplingKind,
    /// Order of the spline.
    pub(crate) order: usize,
    /// Order along a coarse axis.
    pub(crate) order_z: usize,
    /// Whether the coarse axis is resampled on its own; decided from the spacing if absent.
    pub(crate) separate_z: Option<bool>,
    /// The ratio of spacings above which an axis is coarse.
    pub(crate) threshold: f64,
}

/// The first stage of a cascade.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Previous {
    /// Its configuration.
    pub(crate) configuration: String,
    /// How its mask is resampled.
    pub(crate) mask: Resampling,
}

/// One configuration of a plan, with what it inherits.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) architecture: Architecture,
    pub(crate) patch: Vec<usize>,
    /// Target spacing along the axes of the transposed grid: three, or the two of slices.
    pub(crate) spacing: Vec<f64>,
    /// The median voxel size of the training scans along the same axes, if the plan has it.
    pub(crate) median_spacing: Vec<f64>,
    /// One for each channel.
    pub(crate) schemes: Vec<Scheme>,
    pub(crate) image: Resampling,
    pub(crate) logits: Resampling,
    /// The configuration whose mask the network needs as input.
    pub(crate) previous: Option<Previous>,
    /// Order of the axes: the axis of the array (z, y, x) at each position of the transposed one.
    pub(crate) transpose: [usize; 3],
    /// Class of the reader, such as `SimpleITKIO`.
    pub(crate) reader: String,
    pub(crate) dataset: String,
    /// Name of the plan.
    pub(crate) plan: String,
}

impl Plans {
    /// # Errors
    /// If the text is not a JSON object.
    pub(crate) fn parse(text: &str) -> Result<Self, PlansError> {
        let value = parse(text)?;
        Json::new(&value, "plans").object()?;
        Ok(Self { value })
    }

    fn root(&self) -> Json<'_> {
        Json::new(&self.value, "")
    }

    /// A configuration by its name.
    ///
    /// # Errors
    /// When it does not exist, lacks entries, or asks for something that is not supported.
    pub(crate) fn configuration(&self, name: &str, channels: usize) -> Result<Configuration, PlansError> {
        let resolved = Value::Object(self.resolve(name)?);
        let json = Json::new(&resolved, format!("configurations.{name}"));
        let root = self.root();
        check_classes(&root, &json)?;
        let patch = json.get("patch_size")?.wholes()?;
        let dimensions = u8::try_from(patch.len()).ok().and_then(|axes| Dimensions::try_from(axes).ok());
        let dimensions = dimensions.ok_or_else(|| wrong(&json, "patch_size", "a list of 2 or 3 numbers"))?;
        let architecture = match json.optional("architecture")? {
            Some(architecture) => Architecture::current(&architecture, dimensions)?,
            None => Architecture::old(&json, dimensions)?,
        };
        let spacing = json.get("spacing")?.numbers()?;
        // nnU-Net plans two for slices, but takes three as well.
        if ![patch.len(), 3].contains(&spacing.len()) || spacing.iter().any(|edge| *edge <= 0.0) {
            return Err(wrong(&json, "spacing", "a positive number for each axis of the patch"));
        }
        let multiple = architecture.padding_multiple();
        if patch.iter().zip(&multiple).any(|(edge, multiple)| *edge == 0 || edge % multiple != 0) {
            return Err(PlansError::Contradiction {
                reason: format!("its patch {patch:?} is not a multiple of the network's strides {multiple:?}"),
            });
        }
        let text =
            |key: &str| root.optional(key)?.map_or(Ok(String::new()), |text| text.text().map(str::to_owned));
        Ok(Configuration {
            architecture,
            patch,
            spacing,
            median_spacing: root
                .optional("original_median_spacing_after_transp")?
                .map_or(Ok(Vec::new()), |median| median.numbers())?,
            schemes: schemes(&root, &json, channels)?,
            image: resampling(&json, "resampling_fn_data")?,
            logits: resampling(&json, "resampling_fn_probabilities")?,
            previous: previous(&json)?,
            transpose: transpose(&root)?,
            reader: text("image_reader_writer")?,
            dataset: text("dataset_name")?,
            plan: text("plans_name")?,
        })
    }

    /// The entries of a configuration and of those that it inherits from; its own win.
    fn resolve(&self, name: &str) -> Result<Map<String, Value>, PlansError> {
        let configurations = self.root().get("configurations")?;
        let known = configurations.object()?;
        let mut chain: Vec<&str> = Vec::new();
        let mut merged = Map::new();
        let mut next = Some(name);
        while let Some(name) = next {
            if chain.contains(&name) {
                return Err(PlansError::Contradiction {
                    reason: format!("its configurations inherit from each other: {} → {name}", chain.join(" → ")),
                });
            }
            chain.push(name);
            let found = known.get(name).ok_or_else(|| PlansError::UnknownConfiguration {
                name: name.to_owned(),
                known: known.keys().cloned().collect::<Vec<_>>().join(", "),
            })?;
            let json = Json::new(found, format!("configurations.{name}"));
            for (key, value) in json.object()? {
                if !merged.contains_key(key) {
                    merged.insert(key.clone(), value.clone());
                }
            }
            next = json.optional("inherits_from")?.map(|parent| parent.text()).transpose()?;
        }
        Ok(merged)
    }
}

fn wrong(json: &Json<'_>, key: &str, expected: &'static str) -> PlansError {
    json.get(key).map_or_else(|e| e, |found| found.wrong(expected))
}

/// The first stage of a cascade, if this is the second.
fn previous(json: &Json<'_>) -> Result<Option<Previous>, PlansError> {
    const KEY: &str = "resampling_fn_seg";
    let Some(configuration) = json.optional("previous_stage")? else { return Ok(None) };
    let mask = resampling(json, KEY)?;
    let options = json.get(&format!("{KEY}_kwargs"))?;
    let flag = |key: &str| match options.value.is_object() {
        true => options.optional(key)?.map_or(Ok(false), |value| value.flag()),
        false => Ok(false),
    };
    let of_masks = [("is_seg", true), ("memefficient_seg_resampling", false)];
    for (key, expected) in of_masks.into_iter().take(if mask.kind == ResamplingKind::None { 0 } else { 2 }) {
        if flag(key)? != expected {
            return Err(PlansError::unsupported(
                format!("the resampling of masks with `{key}` {}", !expected),
                "it is not what nnU-Net plans",
            ));
        }
    }
    Ok(Some(Previous { configuration: configuration.text()?.to_owned(), mask }))
}

/// Refuses classes of the user's own, which may do anything.
fn check_classes(root: &Json<'_>, json: &Json<'_>) -> Result<(), PlansError> {
    let known = [(root, "label_manager", "LabelManager"), (json, "preprocessor_name", "DefaultPreprocessor")];
    for (json, key, class) in known {
        if let Some(found) = json.optional(key)?
            && found.text()? != class
        {
            return Err(PlansError::unsupported(
                format!("`{key}` {}", found.text()?),
                format!("only nnU-Net's own {class} is known"),
            ));
        }
    }
    Ok(())
}

fn transpose(root: &Json<'_>) -> Result<[usize; 3], PlansError> {
    let found = root.get("transpose_forward")?;
    let axes: [usize; 3] = found.wholes()?.try_into().map_err(|_| found.wrong("an order of the axes 0, 1, 2"))?;
    let mut sorted = axes;
    sorted.sort_unstable();
    if sorted != [0, 1, 2] {
        return Err(found.wrong("an order of the axes 0, 1, 2"));
    }
    Ok(axes)
}

fn schemes(root: &Json<'_>, json: &Json<'_>, channels: usize) -> Result<Vec<Scheme>, PlansError> {
    let names = json.get("normalization_schemes")?;
    let masks = json.get("use_mask_for_norm")?;
    let (named, masked) = (names.list()?, masks.list()?);
    if named.len() != channels || masked.len() != channels {
        return Err(PlansError::Contradiction {
            reason: format!(
                "the data set has {channels} channel(s), but the plan normalises {} and has `use_mask_for_norm` for {}",
                named.len(),
                masked.len()
            ),
        });
    }
    let scheme = |(channel, (name, mask)): (usize, (&Json<'_>, &Json<'_>))| match name.text()? {
        "CTNormalization" => ct(root, channel),
        "ZScoreNormalization" => Ok(Scheme::ZScore { inside_nonzero: mask.flag()? }),
        "NoNormalization" => Ok(Scheme::None),
        "RescaleTo01Normalization" => Ok(Scheme::RescaleTo01),
        "RGBTo01Normalization" => Ok(Scheme::RgbTo01),
        other => Err(PlansError::unsupported(
            format!("the normalisation `{other}`"),
            "it is not one of nnU-Net's own schemes",
        )),
    };
    named.iter().zip(&masked).enumerate().map(scheme).collect()
}

fn ct(root: &Json<'_>, channel: usize) -> Result<Scheme, PlansError> {
    let properties = match root.optional("foreground_intensity_properties_per_channel")? {
        Some(properties) => properties,
        None => root.get("foreground_intensity_properties_by_modality")?,
    };
    let properties = properties.get(&channel.to_string())?;
    let number = |key: &str| properties.get(key)?.number();
    /// nnU-Net divides by at least this.
    const SMALLEST_SD: f64 = 1e-8;
    Ok(Scheme::Ct {
        clip: [number("percentile_00_5")?, number("percentile_99_5")?],
        mean: number("mean")?,
        sd: number("std")?.max(SMALLEST_SD),
    })
}

fn resampling(json: &Json<'_>, key: &str) -> Result<Resampling, PlansError> {
    /// nnU-Net's `ANISO_THRESHOLD`.
    const THRESHOLD: f64 = 3.0;
    let name = json.get(key)?;
    let options = json.get(&format!("{key}_kwargs"))?;
    let kind = match name.text()? {
        "resample_data_or_seg_to_shape" => ResamplingKind::Splines,
        "resample_torch_fornnunet" => ResamplingKind::Torch,
        "no_resampling_hack" => ResamplingKind::None,
        other => {
            return Err(PlansError::unsupported(
                format!("the resampling `{other}`"),
                "it is not one of nnU-Net's own functions",
            ));
        }
    };
    let whole = |key: &str, default| options.optional(key)?.map_or(Ok(default), |value| value.whole());
    let has_options = options.value.is_object();
    if !has_options && !options.value.is_null() {
        return Err(options.wrong("an object"));
    }
    // The functions' own defaults of `force_separate_z`; plans have null, which decides by the spacing.
    let default = if kind == ResamplingKind::Torch { None } else { Some(false) };
    if !has_options {
        return Ok(Resampling { kind, order: 3, order_z: 0, separate_z: default, threshold: THRESHOLD });
    }
    for (key, known) in [("mode", "linear"), ("aniso_axis_mode", "nearest-exact")] {
        if let Some(mode) = options.optional(key)?
            && mode.text()? != known
        {
            return Err(PlansError::unsupported(
                format!("the resampling `{key}` {}", mode.text()?),
                format!("only `{known}` is known"),
            ));
        }
    }
    let separate_z = match options.object()?.get("force_separate_z") {
        None => default,
        Some(Value::Null) => None,
        Some(_) => Some(options.get("force_separate_z")?.flag()?),
    };
    let threshold =
        options.optional("separate_z_anisotropy_threshold")?.map_or(Ok(THRESHOLD), |value| value.number())?;
    let (order, order_z) = (whole("order", 3)?, whole("order_z", 0)?);
    if order > 5 || order_z > 5 {
        return Err(options.wrong("orders of splines from 0 to 5"));
    }
    Ok(Resampling { kind, order, order_z, separate_z, threshold })
}
