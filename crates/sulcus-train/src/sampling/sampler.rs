use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sulcus_kernels::Regions;
use sulcus_plan::{Augmentation, PlanError};

use super::augment::{PatchLocation, PatchTransform, SourceCase};
use super::training_case::TrainingCase;
use crate::error::TrainError;

/// How training patches are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingConfig {
    /// The patch size D, H, W; slices have D = 1.
    pub patch: [usize; 3],
    /// Voxel size along D, H, W of the cases that have none of their own.
    pub spacing_mm: [f64; 3],
    /// Patches per step.
    pub batch_size: usize,
    /// Minimum fraction of the patches of a batch that contain a voxel of a structure.
    pub foreground_share: f64,
    /// Random transforms of the patches.
    pub augmentation: Augmentation,
    /// Seed of patches and transforms.
    pub seed: u64,
}

/// Draws training patches. A patch depends only on the seed, the epoch and its index, so that neither the number of
/// workers nor an interruption changes the training data.
#[derive(Debug)]
pub struct Sampler {
    cases: Vec<TrainingCase>,
    /// Indices of the cases with foreground.
    with_foreground: Vec<usize>,
    channels: usize,
    sampling: SamplingConfig,
    regions: Option<Regions>,
}

/// Patches for one step.
///
/// # Shapes
/// `image` `[N, C, D, H, W]`, `classes` `[N, D, H, W]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The patches.
    pub image: Vec<f32>,
    /// The class of each voxel.
    pub classes: Vec<u8>,
    /// N, C, D, H, W.
    pub shape: [usize; 5],
    /// The regions of the classes, for a network that predicts regions.
    pub regions: Option<Regions>,
}

impl Sampler {
    /// Maximum number of values of a batch: positions in it are counted with 32 bits.
    const MAX_VALUES: usize = u32::MAX as usize;

    /// Draws from these cases.
    ///
    /// # Errors
    /// When there is no case, the cases have different numbers of channels, or a setting is invalid.
    pub fn new(cases: Vec<TrainingCase>, sampling: SamplingConfig) -> Result<Self, TrainError> {
        let bad = |what: String| Err(TrainError::Config(what));
        let Some(channels) = cases.first().map(|case| case.image.channels()) else {
            return bad("there is no case to draw patches from".into());
        };
        if let Some(odd) = cases.iter().find(|case| case.image.channels() != channels) {
            let what = format!("it has {} channel(s), the first case has {channels}", odd.image.channels());
            return Err(TrainError::Sample { case: odd.name.clone(), what });
        }
        let values = sampling.patch.iter().chain([&sampling.batch_size, &channels]);
        if values.clone().any(|edge| *edge == 0)
            || values.fold(1_usize, |n, edge| n.saturating_mul(*edge)) > Self::MAX_VALUES
        {
            return bad(format!(
                "a batch of {} patches of {:?} in {channels} channel(s) is not possible: it must have 1 to {} values",
                sampling.batch_size,
                sampling.patch,
                Self::MAX_VALUES
            ));
        }
        let sizes = cases.iter().filter_map(|case| case.spacing_mm).chain([sampling.spacing_mm]);
        let is_size = |mm: &[f64; 3]| mm.iter().all(|mm| *mm > 0.0 && mm.is_finite());
        if let Some(odd) = sizes.into_iter().find(|mm| !is_size(mm)) {
            return bad(format!("voxels cannot measure {odd:?} mm"));
        }
        if !(0.0..=1.0).contains(&sampling.foreground_share) {
            return bad(format!("`foreground_share` must lie in 0 to 1, found {}", sampling.foreground_share));
        }
        sampling.augmentation.check().map_err(PlanError::Config)?;
        let with_foreground =
            cases.iter().enumerate().filter(|(_, c)| !c.voxels_of_structure.is_empty()).map(|(i, _)| i).collect();
        Ok(Self { cases, with_foreground, channels, sampling, regions: None })
    }

    /// Sets the regions of the classes, for a network that predicts regions.
    #[must_use]
    pub fn with_regions(self, regions: Option<Regions>) -> Self {
        Self { regions, ..self }
    }

    /// The cases.
    pub fn cases(&self) -> &[TrainingCase] {
        &self.cases
    }

    /// The patches of a step.
    ///
    /// # Errors
    /// When a patch cannot be drawn; the error names its case.
    pub fn batch(&self, epoch: usize, step: usize) -> Result<Batch, TrainError> {
        let SamplingConfig { patch, batch_size, foreground_share, seed, .. } = self.sampling;
        let voxels: usize = patch.iter().product();
        let mut image = vec![0.0; batch_size * self.channels * voxels];
        let mut classes = vec![0; batch_size * voxels];
        /// Fractions are not exact: 0.1 + 0.2 of ten patches are three, not four.
        const ROUNDING: f64 = 1e-9;
        let with_foreground = (batch_size as f64 * foreground_share - ROUNDING).ceil() as usize;
        let samples = image.chunks_exact_mut(self.channels * voxels).zip(classes.chunks_exact_mut(voxels));
        for (index, (image, classes)) in samples.enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(((epoch as u64) << 32) | (step * batch_size + index) as u64);
            let Some(case) = self.pick_case(&mut rng, index < with_foreground) else { continue };
            // A panic ends the training with the case's name, not only its thread.
            catch_unwind(AssertUnwindSafe(|| {
                self.sample(case, &mut rng, index < with_foreground, image, classes);
            }))
            .map_err(|panic| TrainError::Sample { case: case.name.clone(), what: message(panic.as_ref()) })?;
        }
        let [d, h, w] = patch;
        Ok(Batch { image, classes, shape: [batch_size, self.channels, d, h, w], regions: self.regions.clone() })
    }

    fn pick_case(&self, rng: &mut ChaCha8Rng, foreground: bool) -> Option<&TrainingCase> {
        let with_foreground = if foreground { pick(rng, &self.with_foreground) } else { None };
        with_foreground.and_then(|index| self.cases.get(*index)).or_else(|| pick(rng, &self.cases))
    }

    fn sample(
        &self,
        case: &TrainingCase,
        rng: &mut ChaCha8Rng,
        foreground: bool,
        image: &mut [f32],
        classes: &mut [u8],
    ) {
        let SamplingConfig { patch, spacing_mm, augmentation, .. } = self.sampling;
        let shape = case.shape();
        // First a structure, then one of its voxels, so that small structures are sampled as often as large ones.
        let wanted = if foreground { pick(rng, &case.voxels_of_structure) } else { None };
        let voxel = wanted.and_then(|(_, voxels)| pick(rng, voxels)).copied();
        let anchor = voxel.map(|v| [v / (shape[1] * shape[2]), v / shape[2] % shape[1], v % shape[2]]);
        let mut corner = [0; 3];
        for axis in 0..3 {
            corner[axis] = first_voxel(rng, shape[axis], patch[axis], anchor.map(|a| a[axis]));
        }
        let spacing_mm = case.spacing_mm.unwrap_or(spacing_mm);
        let location = PatchLocation { patch, corner, anchor: anchor.map(|a| a.map(|v| v as i64)), spacing_mm };
        let source = SourceCase { image: case.image.data(), classes: case.labels.classes(), shape };
        PatchTransform::draw(&augmentation, self.channels, rng).cut(&source, &location, image, classes);
    }
}

/// The message of a panic.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked").to_owned()
}

fn pick<'a, T>(rng: &mut ChaCha8Rng, items: &'a [T]) -> Option<&'a T> {
    if items.is_empty() { None } else { items.get(rng.random_range(0..items.len())) }
}

/// The first voxel of a patch along an axis. In a longer case it is random, or such that the anchor lies in the middle if the
/// case's border allows it. Around a shorter case it is random.
fn first_voxel(rng: &mut ChaCha8Rng, case: usize, patch: usize, anchor: Option<usize>) -> i64 {
    let (case, patch) = (case as i64, patch as i64);
    let room = case - patch;
    match anchor {
        Some(anchor) if room > 0 => (anchor as i64 - patch / 2).clamp(0, room),
        _ => rng.random_range(room.min(0)..=room.max(0)),
    }
}

#[cfg(test)]
mod tests {
    use sulcus_pipeline::{Preprocessed, PreprocessedLabels};
    use sulcus_plan::{Flips, RandomRange};

    use super::*;

    /// `shape` is x, y, z; the voxels in `held` are of the class given with them.
    fn case(shape: [usize; 3], channels: usize, held: &[(usize, u8)]) -> TrainingCase {
        let voxels: usize = shape.iter().product();
        let mut classes = vec![0; voxels];
        held.iter().for_each(|(offset, class)| classes[*offset] = *class);
        let values = (0..voxels * channels).map(|i| 1.0 + (i % 97) as f32).collect();
        let image = Preprocessed::from_parts(shape, channels, values).unwrap();
        let labels = PreprocessedLabels::from_parts(shape, classes).unwrap();
        TrainingCase::new(format!("{shape:?}"), image, labels, &[vec![1], vec![2], vec![3]]).unwrap()
    }

    fn sampling(patch: [usize; 3]) -> SamplingConfig {
        SamplingConfig {
            patch,
            spacing_mm: [1.0; 3],
            batch_size: 4,
            foreground_share: 0.5,
            augmentation: Augmentation::nnunet().with(|a| a.flips = Flips::all(3)),
            seed: 5,
        }
    }

    #[test]
    fn structure_of_one_voxel_is_kept_by_every_transform() {
        // In a corner, in the middle, on a face; a case without any beside them.
        let cases = [0, 7 * 400 + 9 * 20 + 11, 3 * 400 + 19].map(|at| case([20, 20, 14], 1, &[(at, 2)]));
        let cases = || cases.iter().cloned().chain([case([20, 20, 14], 1, &[])]).collect::<Vec<_>>();
        let heavy = |mut s: SamplingConfig| {
            s.augmentation.rotation.probability = 1.0;
            s.augmentation.scaling.probability = 1.0;
            s.augmentation.translation = RandomRange::new(1.0, [-0.5, 0.5]);
            s
        };
        for patch in [[1, 8, 8], [8, 8, 8], [16, 32, 24], [1, 32, 32], [1, 1, 1]] {
            for sampling in [sampling(patch), heavy(sampling(patch))] {
                let sampler = Sampler::new(cases(), sampling).unwrap();
                for step in 0..200 {
                    let batch = sampler.batch(1, step).unwrap();
                    let voxels: usize = patch.iter().product();
                    let holds: Vec<bool> = batch.classes.chunks(voxels).map(|c| c.contains(&2)).collect();
                    assert_eq!(holds[..2], [true; 2], "patch {patch:?}, step {step}");
                }
            }
        }
    }

    #[test]
    fn small_cases_with_several_channels_fill_a_patch() {
        for patch in [[1, 6, 5], [4, 6, 5]] {
            let cases =
                vec![case([1, 1, 1], 2, &[(0, 1)]), case([3, 40, 2], 2, &[]), case([30, 1, 9], 2, &[(5, 3)])];
            let sampler = Sampler::new(cases, sampling(patch)).unwrap();
            for step in 0..100 {
                let batch = sampler.batch(0, step).unwrap();
                assert_eq!(batch.shape, [4, 2, patch[0], patch[1], patch[2]]);
                assert_eq!(batch.image.len(), 2 * batch.classes.len());
                assert!(batch.image.iter().all(|v| v.is_finite()));
            }
        }
    }

    #[test]
    fn untransformed_patch_is_a_copy_centred_on_a_voxel_of_the_class() {
        let at = 7 * 400 + 9 * 20 + 11;
        let plain =
            SamplingConfig { augmentation: Augmentation::none(), foreground_share: 1.0, ..sampling([5, 7, 9]) };
        let sampler = Sampler::new(vec![case([20, 20, 14], 1, &[(at, 1)])], plain).unwrap();
        let batch = sampler.batch(0, 0).unwrap();
        let value = |z: usize, y: usize, x: usize| 1.0 + ((z * 400 + y * 20 + x) % 97) as f32;
        for (i, v) in batch.image.iter().take(5 * 7 * 9).enumerate() {
            assert_eq!(*v, value(7 - 2 + i / 63, 9 - 3 + i / 9 % 7, 11 - 4 + i % 9));
        }
        assert_eq!(batch.classes[2 * 63 + 3 * 9 + 4], 1);
    }

    #[test]
    fn rare_class_is_sampled_beside_a_common_one() {
        let mut held: Vec<(usize, u8)> = (0..19 * 400).map(|i| (i, 1)).collect();
        held.push((19 * 400 + 3, 3));
        let whole = case([20, 20, 40], 1, &held);
        let counts: Vec<(usize, usize)> = whole.voxels_of_structure.iter().map(|(c, v)| (*c, v.len())).collect();
        assert_eq!(counts, [(0, 19 * 400), (2, 1)]);
        assert_eq!(whole.foreground_slices(), 20);
        let sampler =
            Sampler::new(vec![whole], SamplingConfig { foreground_share: 1.0, ..sampling([4, 8, 8]) }).unwrap();
        let rare: usize = (0..100)
            .map(|step| {
                let batch = sampler.batch(0, step).unwrap();
                batch.classes.chunks(4 * 64).filter(|c| c.contains(&3)).count()
            })
            .sum();
        assert!((150..=250).contains(&rare), "{rare} of 400");
    }

    #[test]
    fn voxels_outside_of_structures_are_not_kept() {
        let ignored = case([6, 6, 6], 1, &[(0, 255), (7, 1)]);
        assert_eq!(ignored.voxels_of_structure, [(0, vec![7])]);
    }

    #[test]
    fn case_is_rotated_with_its_own_voxel_size() {
        let turned = |own: Option<[f64; 3]>, common: [f64; 3]| {
            let thick = case([20, 20, 14], 1, &[(2991, 1)]);
            let thick = match own {
                Some(mm) => thick.with_spacing(mm),
                None => thick,
            };
            let mut sampling = SamplingConfig { spacing_mm: common, ..sampling([8, 8, 8]) };
            sampling.augmentation.rotation.probability = 1.0;
            let sampler = Sampler::new(vec![thick], sampling).unwrap();
            (0..4).map(|step| sampler.batch(0, step).unwrap()).collect::<Vec<_>>()
        };
        let thick = [4.0, 1.0, 1.0];
        assert_eq!(turned(Some(thick), [1.0; 3]), turned(None, thick));
        assert_ne!(turned(Some(thick), [1.0; 3]), turned(None, [1.0; 3]));
    }

    #[test]
    fn regions_are_sampled_from_all_their_classes() {
        let image = Preprocessed::from_parts([4, 1, 1], 1, vec![0.0; 4]).unwrap();
        let labels = PreprocessedLabels::from_parts([4, 1, 1], vec![2, 0, 1, 2]).unwrap();
        let case = TrainingCase::new("a".into(), image, labels, &[vec![1, 2], vec![2], vec![3]]).unwrap();
        assert_eq!(case.voxels_of_structure, [(0, vec![0, 2, 3]), (1, vec![0, 3])]);
    }

    #[test]
    fn failing_case_is_named() {
        let mut broken = case([8, 8, 8], 1, &[(0, 1)]);
        broken.labels = PreprocessedLabels::from_parts([1, 1, 1], vec![1]).unwrap();
        let plain = SamplingConfig { augmentation: Augmentation::none(), ..sampling([4, 4, 4]) };
        let sampler = Sampler::new(vec![broken], plain).unwrap();
        let failed = sampler.batch(0, 0).unwrap_err().to_string();
        assert!(failed.starts_with("no patch could be drawn from case [8, 8, 8]: "), "{failed}");
    }

    #[test]
    fn invalid_cases_and_settings_are_refused() {
        let one = || case([8, 8, 8], 1, &[]);
        let message = |cases, sampling| Sampler::new(cases, sampling).unwrap_err().to_string();
        insta::assert_snapshot!(message(vec![], sampling([1, 4, 4])), @"cannot train with this configuration: there is no case to draw patches from");
        insta::assert_snapshot!(message(vec![one(), case([2, 2, 2], 2, &[])], sampling([1, 4, 4])), @"no patch could be drawn from case [2, 2, 2]: it has 2 channel(s), the first case has 1");
        insta::assert_snapshot!(message(vec![one()], sampling([0, 4, 4])), @"cannot train with this configuration: a batch of 4 patches of [0, 4, 4] in 1 channel(s) is not possible: it must have 1 to 4294967295 values");
        let vast = SamplingConfig { batch_size: 1 << 20, ..sampling([1, 64, 64]) };
        insta::assert_snapshot!(message(vec![one()], vast), @"cannot train with this configuration: a batch of 1048576 patches of [1, 64, 64] in 1 channel(s) is not possible: it must have 1 to 4294967295 values");
        let flat = SamplingConfig { spacing_mm: [0.0, 1.0, 1.0], ..sampling([4, 4, 4]) };
        insta::assert_snapshot!(message(vec![one()], flat), @"cannot train with this configuration: voxels cannot measure [0.0, 1.0, 1.0] mm");
        let image = Preprocessed::from_parts([2, 2, 2], 1, vec![0.0; 8]).unwrap();
        let labels = PreprocessedLabels::from_parts([2, 2, 1], vec![0; 4]).unwrap();
        let differ = TrainingCase::new("a".into(), image, labels, &[vec![1]]).unwrap_err();
        insta::assert_snapshot!(differ, @"no patch could be drawn from case a: its image has 2 × 2 × 2 voxels once prepared, its mask [2, 2, 1]");
    }
}
