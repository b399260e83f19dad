//! Drawing the patches of a training step: two volumes of 40 × 56 × 40 or sixteen slices of 48 × 64, from cases of
//! about that size. A batch is made on one core.
#![allow(clippy::expect_used, reason = "a bench that can't be set up has nothing to measure")]

use std::fmt;

use sulcus_pipeline::{Preprocessed, PreprocessedLabels};
use sulcus_train::{Augmentation, Chance, Flips, Sampler, Sampling, TrainingCase};

fn main() {
    divan::main();
}

#[derive(Clone, Copy)]
enum Varied {
    /// Exact copies.
    None,
    /// The default of slice-wise networks.
    Light,
    /// Each change with nnU-Net's probability.
    NnuNet,
    /// Each change on every patch.
    Always,
}

impl Varied {
    fn augmentation(self) -> Augmentation {
        let always = |chance: Chance| Chance { probability: 1.0, ..chance };
        let nnunet = Augmentation { flips: Flips::all(3), ..Augmentation::nnunet() };
        match self {
            Self::None => Augmentation::none(),
            Self::Light => Augmentation::light(),
            Self::NnuNet => nnunet,
            Self::Always => Augmentation {
                rotation: always(nnunet.rotation),
                scaling: always(nnunet.scaling),
                noise: always(nnunet.noise),
                blur: always(nnunet.blur),
                blur_channel_probability: 1.0,
                brightness: always(nnunet.brightness),
                contrast: always(nnunet.contrast),
                low_resolution: always(nnunet.low_resolution),
                low_resolution_channel_probability: 1.0,
                gamma: always(nnunet.gamma),
                inverted_gamma: always(nnunet.inverted_gamma),
                ..nnunet
            },
        }
    }
}

struct Case {
    name: &'static str,
    varied: Varied,
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
    Case { name: "3d_none", varied: Varied::None, batch_size: 2, patch: VOLUME },
    Case { name: "3d_nnunet", varied: Varied::NnuNet, batch_size: 2, patch: VOLUME },
    Case { name: "3d_always", varied: Varied::Always, batch_size: 2, patch: VOLUME },
    Case { name: "2d_none", varied: Varied::None, batch_size: 16, patch: SLICE },
    Case { name: "2d_light", varied: Varied::Light, batch_size: 16, patch: SLICE },
    Case { name: "2d_nnunet", varied: Varied::NnuNet, batch_size: 16, patch: SLICE },
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
    let sampling = Sampling {
        patch: case.patch,
        spacing_mm: [1.0; 3],
        batch_size: case.batch_size,
        foreground_share: 1.0 / 3.0,
        augmentation: case.varied.augmentation(),
        seed: 0,
    };
    let sampler = Sampler::new((0..8).map(training_case).collect(), sampling).expect("a sampler");
    let mut step = 0;
    bencher.bench_local(|| {
        step += 1;
        sampler.batch(0, step).expect("a batch")
    });
}
