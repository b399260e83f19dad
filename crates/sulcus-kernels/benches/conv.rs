//! Benches of the three passes of a convolution at the levels of a U-Net: `cargo bench -p sulcus-kernels --bench conv`.

use divan::Bencher;
use divan::counter::ItemsCount;
use sulcus_kernels::{Bf16Convolution, ConvShape, conv_forward, conv_input_gradient, conv_weight_gradient};

/// A named shape.
struct Case {
    name: &'static str,
    shape: ConvShape,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn volume(name: &'static str, inputs: usize, outputs: usize, size: [usize; 3], stride: usize) -> Case {
    Case { name, shape: ConvShape { batch: 2, inputs, outputs, size, kernel: [3; 3], stride: [stride; 3] } }
}

fn slices(name: &'static str, inputs: usize, outputs: usize, edge: usize) -> Case {
    let (size, kernel) = ([1, edge, edge], [1, 3, 3]);
    Case { name, shape: ConvShape { batch: 8, inputs, outputs, size, kernel, stride: [1; 3] } }
}

/// A volume network with 16 channels at patch 40 x 56 x 40, and a slice network with 32 channels at 64 x 64.
fn cases() -> Vec<Case> {
    let levels = [[40, 56, 40], [20, 28, 20], [10, 14, 10], [5, 7, 5]];
    let head = ConvShape { batch: 2, inputs: 16, outputs: 3, size: levels[0], kernel: [1; 3], stride: [1; 3] };
    vec![
        volume("3d 1>16 level 0", 1, 16, levels[0], 1),
        volume("3d 16>16 level 0", 16, 16, levels[0], 1),
        volume("3d 32>16 level 0", 32, 16, levels[0], 1),
        volume("3d 16>32 stride 2", 16, 32, levels[0], 2),
        volume("3d 32>32 level 1", 32, 32, levels[1], 1),
        volume("3d 64>32 level 1", 64, 32, levels[1], 1),
        volume("3d 32>64 stride 2", 32, 64, levels[1], 2),
        volume("3d 64>64 level 2", 64, 64, levels[2], 1),
        volume("3d 128>64 level 2", 128, 64, levels[2], 1),
        volume("3d 64>128 stride 2", 64, 128, levels[2], 2),
        volume("3d 128>128 level 3", 128, 128, levels[3], 1),
        Case { name: "3d 16>3 kernel 1", shape: head },
        slices("2d 32>32 at 64", 32, 32, 64),
        slices("2d 64>32 at 64", 64, 32, 64),
        slices("2d 64>64 at 64", 64, 64, 64),
        slices("2d 128>128 at 16", 128, 128, 16),
    ]
}

fn values(length: usize) -> Vec<f32> {
    (0..length).map(|index| (index * 7919 % 1000) as f32 / 1000.0 - 0.5).collect()
}

/// The tensors of one case.
struct Tensors {
    x: Vec<f32>,
    weight: Vec<f32>,
    y: Vec<f32>,
}

impl Tensors {
    fn new(shape: &ConvShape) -> Self {
        let plane = |size: [usize; 3]| size.iter().product::<usize>();
        Self {
            x: values(shape.batch * shape.inputs * plane(shape.size)),
            weight: values(shape.outputs * shape.inputs * plane(shape.kernel)),
            y: values(shape.batch * shape.outputs * plane(shape.output_size())),
        }
    }

    /// Multiplications and additions of one pass.
    fn operations(&self, shape: &ConvShape) -> ItemsCount {
        ItemsCount::new(2 * self.y.len() * self.weight.len() / shape.outputs)
    }
}

fn measure<R>(bencher: Bencher, case: &Case, mut pass: impl FnMut(&ConvShape, &mut Tensors) -> R) {
    let mut tensors = Tensors::new(&case.shape);
    bencher.counter(tensors.operations(&case.shape)).bench_local(|| pass(&case.shape, &mut tensors));
}

#[divan::bench(args = cases())]
fn forward(bencher: Bencher, case: &Case) {
    measure(bencher, case, |shape, t| conv_forward(shape, &[&t.x], &t.weight, None, &mut t.y));
}

#[divan::bench(args = cases())]
fn input_gradient(bencher: Bencher, case: &Case) {
    measure(bencher, case, |shape, t| conv_input_gradient(shape, &t.weight, &t.y, &mut [&mut t.x]));
}

#[divan::bench(args = cases())]
fn weight_gradient(bencher: Bencher, case: &Case) {
    measure(bencher, case, |shape, t| conv_weight_gradient(shape, &[&t.x], &t.y, &mut t.weight, None));
}

/// The same in bfloat16, where the processor has AMX: cases without it are left out.
mod bf16 {
    use super::*;

    fn cases_with_amx() -> Vec<Case> {
        if Bf16Convolution::detect().is_some() { cases() } else { Vec::new() }
    }

    #[divan::bench(args = cases_with_amx())]
    fn forward(bencher: Bencher, case: &Case) {
        let Some(bf16) = Bf16Convolution::detect() else { return };
        measure(bencher, case, |shape, t| bf16.forward(shape, &[&t.x], &t.weight, None, &mut t.y));
    }

    #[divan::bench(args = cases_with_amx())]
    fn input_gradient(bencher: Bencher, case: &Case) {
        let Some(bf16) = Bf16Convolution::detect() else { return };
        measure(bencher, case, |shape, t| bf16.input_gradient(shape, &t.weight, &t.y, &mut [&mut t.x]));
    }

    #[divan::bench(args = cases_with_amx())]
    fn weight_gradient(bencher: Bencher, case: &Case) {
        let Some(bf16) = Bf16Convolution::detect() else { return };
        measure(bencher, case, |shape, t| bf16.weight_gradient(shape, &[&t.x], &t.y, &mut t.weight, None));
    }
}

fn main() {
    divan::main();
}
