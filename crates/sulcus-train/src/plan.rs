use serde::{Deserialize, Serialize};
use sulcus_pipeline::{
    ChannelSpec, FORMAT_VERSION, ModelSpec, NetworkSpec, Normalisation, Output, SpacingRule, Tiling, Training,
};
use sulcus_volume::{Interpolation, LabelTable, Orientation, Spacing};

use crate::survey::Range;
use crate::{CaseFacts, Flips, SpacingChoice, TrainConfig, TrainError};

/// What was decided from the data, and why: everything about a model besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The network.
    pub network: NetworkSpec,
    /// Names of the channels.
    pub channels: Vec<String>,
    /// The structures.
    pub labels: LabelTable,
    /// How intensities are brought to a common scale.
    pub normalisation: Normalisation,
    /// What the network's channels mean.
    pub output: Output,
    /// How the prepared grid lies.
    pub orientation: Orientation,
    /// On which voxel size the network works.
    pub spacing: SpacingRule,
    /// Patch for training, H and W.
    pub patch: Vec<usize>,
    /// How a volume is cut up at prediction.
    pub tiling: Tiling,
    /// Mirroring while training.
    pub flips: Flips,
    /// A sentence for each decision.
    pub why: Vec<String>,
}

/// Spacings that differ by less than this factor are alike: resampling would blur more than it aligns.
const ALIKE: f64 = 1.2;
/// The largest patch edge that is planned without being asked for: more does not fit a laptop's memory with the
/// classic network.
const LARGEST_EDGE: usize = 320;

impl Plan {
    /// Decides what the configuration leaves open.
    ///
    /// # Errors
    /// When a setting does not fit the data or the network.
    pub fn decide(
        config: &TrainConfig,
        channels: &[String],
        labels: &LabelTable,
        facts: &[CaseFacts],
    ) -> Result<Self, TrainError> {
        config.check()?;
        let mut why = Vec::new();
        let along = |o| {
            let (shapes, spacings): (Vec<_>, Vec<_>) = facts.iter().map(|f| f.along(o)).unzip();
            (Range::of(shapes.iter().map(|s: &[usize; 3]| s.map(|n| n as f64))), Range::of(spacings.into_iter()))
        };
        let orientation = match config.orientation {
            Some(orientation) => orientation,
            None => slice_plane(along(Orientation::RAS), &mut why)?,
        };
        let (shape, spacing) = along(orientation);
        let rule = spacing_rule(config.spacing, orientation, spacing, &mut why)?;
        let shape: [f64; 3] = match rule {
            SpacingRule::Native => shape.median,
            SpacingRule::Resample { mm, .. } => {
                std::array::from_fn(|a| shape.median[a] * spacing.median[a] / mm.mm()[a])
            }
        };
        let (patch, tiling) = match &config.patch {
            Some(patch) => (patch.clone(), Tiling::Patch),
            None => patch_for(shape, &config.network, &mut why),
        };
        let output = match (config.output, labels.entries().len()) {
            (_, 0) => {
                return Err(TrainError::Config("the data set has no label to learn: every mask is empty".into()));
            }
            (Some(output), _) => output,
            (None, 1) => Output::Sigmoid,
            (None, _) => Output::Softmax,
        };
        let flips = match (config.augmentation.flips, labels.entries().len()) {
            (Flips::Auto, 1) => {
                why.push("mirrored patches are trained on too: there is one structure".into());
                Flips::all(config.network.dimensions.count())
            }
            (Flips::Auto, _) => {
                why.push("no mirrored patches: several structures are often told apart by their side".into());
                Flips::none()
            }
            (chosen, _) => chosen,
        };
        let plan = Self {
            network: config.network.clone(),
            channels: channels.to_vec(),
            labels: labels.clone(),
            normalisation: config.normalisation,
            output,
            orientation,
            spacing: rule,
            patch,
            tiling,
            flips,
            why,
        };
        plan.model_spec(String::new(), Training::default()).check()?;
        Ok(plan)
    }

    /// The specification of a model with this plan; its golden case is chosen once there are weights.
    pub fn model_spec(&self, name: String, training: Training) -> ModelSpec {
        let channel = |name: &String| ChannelSpec { name: name.clone(), normalisation: self.normalisation };
        ModelSpec {
            format_version: FORMAT_VERSION,
            name,
            network: self.network.clone(),
            channels: self.channels.iter().map(channel).collect(),
            labels: self.labels.clone(),
            activation: self.output,
            orientation: self.orientation,
            spacing: self.spacing,
            patch: self.patch.clone(),
            tiling: self.tiling,
            overlap: 0.5,
            mirror_axes: self.flips.axes(self.network.dimensions.count()),
            padding_multiple: self.network.padding_multiple(),
            postprocessing: Vec::new(),
            training,
            golden_case: None,
        }
    }
}

/// Slices are taken across the coarsest axis, so that the network sees the finest detail; where all are alike, across
/// the shortest one, so that it sees the most context.
fn slice_plane((shape, spacing): (Range, Range), why: &mut Vec<String>) -> Result<Orientation, TrainError> {
    // Slice axis right, anterior, superior; the slices' rows run along the first letter, columns along the second.
    let planes = [("ASR", "sagittal"), ("RSA", "coronal"), ("RAS", "axial")];
    let spacing_mm = spacing.median;
    let finest = spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
    let key: [f64; 3] =
        if spacing_mm.iter().all(|mm| *mm < ALIKE * finest) { shape.median.map(|n| -n) } else { spacing_mm };
    let axis = (0..3).rev().max_by(|a, b| key[*a].total_cmp(&key[*b])).unwrap_or(2);
    let (code, name) = planes[axis];
    why.push(format!(
        "{name} slices ({code}): median spacing {:.2} × {:.2} × {:.2} mm and shape {} × {} × {} along R, A, S",
        spacing_mm[0], spacing_mm[1], spacing_mm[2], shape.median[0], shape.median[1], shape.median[2]
    ));
    Ok(code.parse::<Orientation>().map_err(sulcus_pipeline::PipelineError::from)?)
}

fn spacing_rule(
    choice: SpacingChoice,
    orientation: Orientation,
    spacing: Range,
    why: &mut Vec<String>,
) -> Result<SpacingRule, TrainError> {
    let cubic = |mm: [f64; 3]| -> Result<SpacingRule, TrainError> {
        let mm = Spacing::new(mm).map_err(sulcus_pipeline::PipelineError::from)?;
        Ok(SpacingRule::Resample { mm, interpolation: Interpolation::Cubic })
    };
    match choice {
        SpacingChoice::Native => Ok(SpacingRule::Native),
        SpacingChoice::Resample(ras) => {
            let turn = sulcus_volume::Reorientation::between(Orientation::RAS, orientation);
            cubic(turn.triple(ras.mm()))
        }
        SpacingChoice::Auto => {
            let ratio = (0..3).map(|a| spacing.max[a] / spacing.min[a]).fold(1.0, f64::max);
            if ratio <= ALIKE {
                why.push(format!("no resampling: voxel sizes differ by a factor of {ratio:.2} at most"));
                return Ok(SpacingRule::Native);
            }
            let [x, y, z] = spacing.median;
            why.push(format!(
                "resampling to the median {x:.2} × {y:.2} × {z:.2} mm: voxel sizes differ by up to a factor of {ratio:.2}"
            ));
            cubic(spacing.median)
        }
    }
}

/// The median slice, each edge rounded up to the network's multiple, or what fits the limit.
fn patch_for([x, y, _]: [f64; 3], network: &NetworkSpec, why: &mut Vec<String>) -> (Vec<usize>, Tiling) {
    let multiples = network.padding_multiple();
    let edge = |length: f64, axis: usize| {
        let multiple = multiples.get(axis).copied().unwrap_or(1).max(1);
        let whole = (length.ceil() as usize).max(1).next_multiple_of(multiple);
        whole.min((LARGEST_EDGE / multiple * multiple).max(multiple))
    };
    let patch = vec![edge(y, 0), edge(x, 1)];
    let whole = patch.iter().zip([y, x]).all(|(edge, length)| *edge as f64 >= length);
    why.push(if whole {
        format!("patches of {patch:?} hold a median slice; whole slices at prediction")
    } else {
        format!("patches of {patch:?} as larger slices don't fit; a sliding window at prediction")
    });
    (patch, if whole { Tiling::Whole } else { Tiling::Patch })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn facts(shape: [usize; 3], mm: [f64; 3]) -> CaseFacts {
        CaseFacts {
            name: "a".into(),
            shape,
            spacing: Spacing::new(mm).unwrap(),
            orientation: Orientation::RAS,
            channels: 1,
            intensity: [0.0, 1.0],
            label_voxels: BTreeMap::new(),
            sha256: String::new(),
        }
    }

    fn decide(facts: &[CaseFacts], structures: u16) -> Plan {
        let labels = LabelTable::from_names((1..=structures).map(|v| (v, format!("s{v}")))).unwrap();
        let config = TrainConfig::from_preset("unet2d-lite").unwrap();
        Plan::decide(&config, &["MRI".into()], &labels, facts).unwrap()
    }

    #[test]
    fn slices_lie_across_the_coarsest_axis() {
        let coronal = decide(&[facts([200, 30, 200], [1.0, 5.0, 1.0])], 1);
        assert_eq!(coronal.orientation.to_string(), "RSA");
        assert_eq!((coronal.patch, coronal.tiling), (vec![208, 208], Tiling::Whole));
        assert_eq!((coronal.output, coronal.flips), (Output::Sigmoid, Flips::all(2)));
    }

    #[test]
    fn cubic_voxels_are_sliced_across_the_shortest_axis() {
        let sagittal = decide(&[facts([35, 50, 36], [1.0; 3]), facts([33, 48, 40], [1.0; 3])], 2);
        assert_eq!(sagittal.orientation.to_string(), "ASR");
        // H runs along superior, W along anterior.
        assert_eq!(sagittal.patch, [48, 64]);
        assert_eq!((sagittal.spacing, sagittal.output), (SpacingRule::Native, Output::Softmax));
        assert_eq!(sagittal.flips, Flips::none());
    }

    #[test]
    fn unlike_spacings_are_resampled_to_the_median_along_the_plans_axes() {
        let cases = [[1.0, 1.0, 3.0], [0.5, 1.0, 3.0], [1.0, 1.0, 4.0]].map(|mm| facts([256, 128, 40], mm));
        let plan = decide(&cases, 1);
        assert_eq!(plan.orientation, Orientation::RAS);
        let mm = Spacing::new([1.0, 1.0, 3.0]).unwrap();
        assert_eq!(plan.spacing, SpacingRule::Resample { mm, interpolation: Interpolation::Cubic });
        assert!(plan.why.iter().any(|w| w.contains("factor of 2.00")), "{:?}", plan.why);
    }

    #[test]
    fn large_slices_are_cut_into_patches() {
        let plan = decide(&[facts([512, 400, 60], [0.5, 0.5, 3.0])], 1);
        assert_eq!((plan.patch, plan.tiling), (vec![320, 320], Tiling::Patch));
    }
}
