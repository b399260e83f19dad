//! Draws the patches of a training step: two volumes of 40 × 56 × 40 or sixteen slices of 48 × 64, from cases of about that
//! size, on one core.
#![allow(clippy::expect_used, reason = "a bench that can't be set up has nothing to measure")]

use std::fmt;

use sulcus_pipeline::{Preprocessed, PreprocessedLabels};
use sulcus_plan::{Augmentation, Flips};
use sulcus_train::{Sampler, SamplingConfig, TrainingCase};

fn main() {
    divan::main();
}

#[derive(Clone, Copy)]
enum AugmentationLevel {
    /// Exact copies.
    None,
    /// The default of 2-D networks.
    Light,
    /// Each transform with nnU-Net's probability.
    NnuNet,
    /// Each transform on every patch.
    Always,
}

impl AugmentationLevel {
    fn augmentation(self) -> Augmentation {
        let mut nnunet = Augmentation::nnunet();
        nnunet.flips = Flips::all(3);
        match self {
            Self::None => Augmentation::none(),
            Self::Light => Augmentation::light(),
            Self::NnuNet => nnunet,
            Self::Always => {
                for range in [
                    &mut nnunet.rotation,
                    &mut nnunet.scaling,
                    &mut nnunet.noise,
                    &mut nnunet.blur,
                    &mut nnunet.brightness,
                    &mut nnunet.contrast,
                    &mut nnunet.low_resolution,
                    &mut nnunet.gamma,
                    &mut nnunet.inverted_gamma,
                ] {
                    range.probability = 1.0;
                }
                nnunet.blur_channel_probability = 1.0;
                nnunet.low_resolution_channel_probability = 1.0;
                nnunet
            }
        }
    }
}

struct Case {
    name: &'static str,
    augmentation: AugmentationLevel,
    batch_size: usize,
    patch: [usize; 3],
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

const VOLUME: [usize; 3] = [40, 56, 40];
const SLICE: [usize; 3] = [1, 48, 64];

const CASES: [Case; 6] = [
    Case { name: "3d_none", augmentation: AugmentationLevel::None, batch_size: 2, patch: VOLUME },
    Case { name: "3d_nnunet", augmentation: AugmentationLevel::NnuNet, batch_size: 2, patch: VOLUME },
    Case { name: "3d_always", augmentation: AugmentationLevel::Always, batch_size: 2, patch: VOLUME },
    Case { name: "2d_none", augmentation: AugmentationLevel::None, batch_size: 16, patch: SLICE },
    Case { name: "2d_light", augmentation: AugmentationLevel::Light, batch_size: 16, patch: SLICE },
    Case { name: "2d_nnunet", augmentation: AugmentationLevel::NnuNet, batch_size: 16, patch: SLICE },
];

#[divan::bench(args = CASES)]
fn batch(bencher: divan::Bencher<'_, '_>, case: &Case) {
    /// Along x, y, z.
    const SHAPE: [usize; 3] = [36, 50, 35];
    let voxels: usize = SHAPE.iter().product();
    let training_case = |seed: usize| {
        let value = |i: usize| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0;
        let image = Preprocessed::from_parts(SHAPE, 1, (0..voxels).map(value).collect()).expect("a grid");
        let class = |i: usize| if (voxels / 3..voxels / 2).contains(&i) { 1 + (i % 36 / 18) as u8 } else { 0 };
        let labels = PreprocessedLabels::from_parts(SHAPE, (0..voxels).map(class).collect()).expect("a grid");
        TrainingCase::new(seed.to_string(), image, labels, &[vec![1], vec![2]]).expect("a case")
    };
    let sampling = SamplingConfig {
        patch: case.patch,
        spacing_mm: [1.0; 3],
        batch_size: case.batch_size,
        foreground_share: 1.0 / 3.0,
        augmentation: case.augmentation.augmentation(),
        seed: 0,
    };
    let sampler = Sampler::new((0..8).map(training_case).collect(), sampling).expect("a sampler");
    let mut step = 0;
    bencher.bench_local(|| {
        step += 1;
        sampler.batch(0, step).expect("a batch")
    });
}
