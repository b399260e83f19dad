//! One training step: forward, loss, backward, optimiser. The same networks and batches as tests/peers/pytorch_unet2d.py.
#![allow(clippy::expect_used, reason = "a bench that can't be set up has nothing to measure")]

use std::fmt;

use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use sulcus_pipeline::Output;
use sulcus_train::{DiceScope, Loss, UNet, preset};

fn main() {
    divan::main();
}

/// A preset and the height and width of its slices.
struct Case {
    preset: &'static str,
    size: [usize; 2],
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}x{}", self.preset, self.size[0], self.size[1])
    }
}

const BATCH: usize = 8;
/// Background, anterior, posterior.
const CLASSES: usize = 3;

const CASES: [Case; 3] = [
    Case { preset: "unet2d-lite", size: [48, 64] },
    Case { preset: "unet2d-lite", size: [64, 64] },
    Case { preset: "unet2d-classic", size: [64, 64] },
];

#[divan::bench(args = CASES, sample_count = 7, sample_size = 1)]
fn step(bencher: divan::Bencher<'_, '_>, case: &Case) {
    let device = Device::flex().autodiff();
    let spec = preset(case.preset).expect("a preset of this name");
    let mut network = UNet::new(&spec, 1, CLASSES, 0, &device).expect("a network of this preset");
    let mut optimiser: ModuleOptimizer = AdamWConfig::new().init();
    let [height, width] = case.size;
    let images = values(BATCH * height * width, |i| ((i * 37) % 101) as f32 / 50.0 - 1.0);
    let images = Tensor::<4>::from_data(TensorData::new(images, [BATCH, 1, height, width]), &device);
    let targets = values(BATCH * height * width, |i| ((i / 7) % CLASSES) as i64);
    let targets = Tensor::<3, Int>::from_data(TensorData::new(targets, [BATCH, height, width]), &device);
    let mut one = || {
        let logits = network.forward(images.clone());
        let loss = Loss::DiceCe.forward(Output::Softmax, DiceScope::Batch, logits, targets.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimiser.step(1e-3, network.clone(), gradients);
        loss.into_scalar::<f32>()
    };
    // The first step allocates and fills the optimiser's state.
    one();
    bencher.bench_local(one);
}

fn values<T>(count: usize, value: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(value).collect()
}
