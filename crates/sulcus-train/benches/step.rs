//! One training step: forward, loss, backward, optimizer. The same networks and batches as tests/peers/pytorch_step.py.
#![allow(clippy::expect_used, reason = "a bench that can't be set up has nothing to measure")]

use std::fmt;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use sulcus_kernels::Bf16Convolution;
use sulcus_model::{NetworkSpec, OutputActivation, StageConfig};
use sulcus_plan::{DiceScope, Loss, Optimizer};
use sulcus_testing::{test_spec, test_stage};
use sulcus_train::{OptimizerState, Targets, UNet, segmentation_loss};

fn main() {
    divan::main();
}

/// A network and the batch, depth, height and width of its input.
struct Case {
    name: &'static str,
    channels: &'static [usize],
    shape: [usize; 4],
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Background, anterior, posterior.
const CLASSES: usize = 3;

const CASES: [Case; 5] = [
    Case { name: "unet2d-lite_48x64", channels: &[16, 32, 64, 128, 256], shape: [8, 1, 48, 64] },
    Case { name: "unet2d-classic_64x64", channels: &[64, 128, 256, 512, 1024], shape: [8, 1, 64, 64] },
    Case { name: "unet2d-base32_64x64", channels: &[32, 64, 128, 256], shape: [8, 1, 64, 64] },
    Case { name: "unet3d-base16_40x56x40", channels: &[16, 32, 64, 128], shape: [2, 40, 56, 40] },
    Case { name: "unet3d-base32_40x56x40", channels: &[32, 64, 128, 256], shape: [2, 40, 56, 40] },
];

impl Case {
    /// Slices: max-pooling and batch normalisation. Blocks: strided convolutions and instance normalisation.
    fn network(&self) -> NetworkSpec {
        let flat = self.shape[1] == 1;
        let axes = if flat { 2 } else { 3 };
        let stage = |(depth, channels): (usize, &usize)| StageConfig {
            convolutions: 2,
            ..test_stage(axes, *channels, if depth == 0 { 1 } else { 2 })
        };
        let spec =
            test_spec(axes as u8).name(self.name).stages(self.channels.iter().enumerate().map(stage).collect());
        let spec = if flat { spec } else { spec.strided() };
        spec.build().network
    }

    fn batch(&self, device: &Device) -> (Tensor<5>, Targets) {
        let [n, d, h, w] = self.shape;
        let voxels = n * d * h * w;
        let image: Vec<f32> = (0..voxels).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let classes: Vec<u8> = (0..voxels).map(|i| ((i / 7) % CLASSES) as u8).collect();
        (
            Tensor::from_data(TensorData::new(image, [n, 1, d, h, w]), device),
            Targets::new(classes, self.shape).expect("a class for each voxel"),
        )
    }
}

#[divan::bench(args = CASES, sample_count = 7, sample_size = 1)]
fn step(bencher: divan::Bencher<'_, '_>, case: &Case) {
    measure(bencher, case, None);
}

/// The same with convolutions in bfloat16. There are no cases without AMX.
#[divan::bench(args = cases_with_amx(), sample_count = 7, sample_size = 1)]
fn step_bf16(bencher: divan::Bencher<'_, '_>, case: &Case) {
    measure(bencher, case, Bf16Convolution::detect());
}

fn cases_with_amx() -> Vec<Case> {
    if Bf16Convolution::detect().is_some() { CASES.into() } else { Vec::new() }
}

fn measure(bencher: divan::Bencher<'_, '_>, case: &Case, bf16: Option<Bf16Convolution>) {
    let device = Device::flex().autodiff();
    let network = UNet::new(&case.network(), 1, CLASSES, 0, &device).expect("a network of this description");
    let mut network = Some(network.with_bf16(bf16));
    let mut optimizer = OptimizerState::new(Optimizer::AdamW { weight_decay: 1e-2 });
    let (image, targets) = case.batch(&device);
    let mut one = || {
        // Taken out, so that the weights are not shared and are updated in place, as in a training.
        let current = network.take().expect("the network of the step before");
        let logits = current.forward(image.clone());
        let loss = segmentation_loss(Loss::DiceCe, OutputActivation::Softmax, DiceScope::Batch, logits, &targets);
        let value = loss.clone().into_scalar::<f32>();
        let gradients = GradientsParams::from_grads(loss.backward(), &current);
        network = Some(optimizer.step(current, gradients, 1e-3, None).expect("a step"));
        value
    };
    // The first step allocates and fills the optimizer's state.
    one();
    bencher.bench_local(one);
}
