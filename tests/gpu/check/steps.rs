//! Time of a training step. The first five networks and batches are those of `benches/step.rs` in sulcus-train and of
//! `tests/peers/pytorch_step.py`, the last is nnU-Net's 3d_fullres plan for a patch of 128³ voxels.

use std::time::Instant;

use serde_json::{Value, json};
use sulcus_model::{NetworkSpec, OutputActivation, Precision, StageConfig};
use sulcus_plan::{DiceScope, Loss, Optimizer};
use sulcus_testing::{test_spec, test_stage};
use sulcus_train::{
    Batch, Exchange, Learner, Objective, OptimizerState, Placement, StepConfig, UNet, check_precision,
};

use crate::{Args, Failure, Outcome, open};

/// Background, anterior, posterior.
const CLASSES: usize = 3;

/// A network and the batch, depth, height and width of its input.
struct Case {
    name: &'static str,
    channels: &'static [usize],
    shape: [usize; 4],
}

const CASES: [Case; 5] = [
    Case { name: "unet2d-lite_48x64", channels: &[16, 32, 64, 128, 256], shape: [8, 1, 48, 64] },
    Case { name: "unet2d-classic_64x64", channels: &[64, 128, 256, 512, 1024], shape: [8, 1, 64, 64] },
    Case { name: "unet2d-base32_64x64", channels: &[32, 64, 128, 256], shape: [8, 1, 64, 64] },
    Case { name: "unet3d-base16_40x56x40", channels: &[16, 32, 64, 128], shape: [2, 40, 56, 40] },
    Case { name: "unet3d-base32_40x56x40", channels: &[32, 64, 128, 256], shape: [2, 40, 56, 40] },
];

const NNUNET: Case = Case {
    name: "nnunet-3d_fullres_128x128x128",
    channels: &[32, 64, 128, 256, 320, 320],
    shape: [2, 128, 128, 128],
};

impl Case {
    /// Slices: max-pooling and batch normalisation. Blocks: strided convolutions and instance normalisation.
    fn network(&self, deep_supervision: bool) -> NetworkSpec {
        let flat = self.shape[1] == 1;
        let axes = if flat { 2 } else { 3 };
        let stage = |(depth, channels): (usize, &usize)| StageConfig {
            convolutions: 2,
            ..test_stage(axes, *channels, if depth == 0 { 1 } else { 2 })
        };
        let spec =
            test_spec(axes as u8).name(self.name).stages(self.channels.iter().enumerate().map(stage).collect());
        let network = if flat { spec } else { spec.strided() }.build().network;
        NetworkSpec { deep_supervision, ..network }
    }

    fn batch(&self) -> Batch {
        let [n, d, h, w] = self.shape;
        let voxels = n * d * h * w;
        Batch {
            image: (0..voxels).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect(),
            classes: (0..voxels).map(|i| ((i / 7) % CLASSES) as u8).collect(),
            shape: [n, 1, d, h, w],
            regions: None,
        }
    }
}

/// Milliseconds of a step: the first, which compiles and chooses kernels, and the median of the later ones.
fn measure(args: &Args, case: &Case, precision: Precision, optimizer: Optimizer, supervised: bool) -> Outcome {
    let (device, name) = open(args)?;
    check_precision(precision, &device, &name).map_err(|e| Failure::Skipped(e.to_string()))?;
    let spec = case.network(supervised);
    let network = UNet::new(&spec, 1, CLASSES, 0, &device.clone().autodiff())?;
    let parameters = network.parameters();
    let objective =
        Objective { loss: Loss::DiceCe, output: OutputActivation::Softmax, dice_scope: DiceScope::Batch };
    let config = StepConfig { objective, precision };
    let placement = Placement::new(vec![device], Exchange::ThroughFirst, &name);
    let mut learner = Learner::new(&spec, network, OptimizerState::new(optimizer), config, None, &placement)?;
    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..args.steps.max(3) {
        let batch = case.batch();
        let start = Instant::now();
        let (next, output) = learner.step(batch, 1e-3, Some(12.0))?;
        learner = next;
        losses.push(output.loss);
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    if losses.iter().any(|loss| !loss.is_finite()) {
        return Err(Failure::Failed(format!("{}: the loss is not finite: {losses:?}", case.name)));
    }
    let mut later = times.split_off(2.min(times.len() - 1));
    later.sort_by(f64::total_cmp);
    Ok(json!({
        "ms": later[later.len() / 2], "least_ms": later[0], "first_ms": times[0], "steps": later.len(),
        "parameters": parameters, "first_loss": losses[0], "last_loss": losses.last(),
        "device_memory_mb": device_memory_mb(),
    }))
}

/// The memory that is in use on the first NVIDIA GPU, if its tool is installed.
fn device_memory_mb() -> Option<f64> {
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let output = std::process::Command::new("nvidia-smi").args(query).output().ok()?;
    String::from_utf8(output.stdout).ok()?.lines().next()?.trim().parse().ok()
}

fn all(args: &Args, precision: Precision) -> Outcome {
    let mut results = serde_json::Map::new();
    for case in &CASES {
        let result = measure(args, case, precision, Optimizer::AdamW { weight_decay: 1e-2 }, false)?;
        // Printed at once, so that an interrupted run shows what it measured.
        println!("{} {result}", case.name);
        results.insert(case.name.to_owned(), result);
    }
    let ms = |value: &Value| value["ms"].as_f64().unwrap_or(f64::NAN);
    let text: Vec<String> = results.iter().map(|(name, value)| format!("{name} {:.1} ms", ms(value))).collect();
    Ok(json!({ "summary": text.join(", "), "precision": precision, "networks": results }))
}

pub(crate) fn single(args: &Args) -> Outcome {
    all(args, Precision::Fp32)
}

pub(crate) fn bf16(args: &Args) -> Outcome {
    all(args, Precision::Bf16)
}

fn large(args: &Args, precision: Precision) -> Outcome {
    let optimizer = Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 };
    let result = measure(args, &NNUNET, precision, optimizer, true)?;
    let ms = |key: &str| result[key].as_f64().unwrap_or(f64::NAN);
    let text = format!("{} {:.0} ms, first step {:.0} ms", NNUNET.name, ms("ms"), ms("first_ms"));
    Ok(json!({ "summary": text, "precision": precision, "network": result }))
}

pub(crate) fn nnunet(args: &Args) -> Outcome {
    large(args, Precision::Fp32)
}

pub(crate) fn nnunet_bf16(args: &Args) -> Outcome {
    large(args, Precision::Bf16)
}
