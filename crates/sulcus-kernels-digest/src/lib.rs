//! The bits of the layers for inference on pseudo-random values, as one number.
//!
//! `cargo xtask wasm-kernels` compiles this for WebAssembly with SIMD128 and without it. Both multiply and add in the same order and
//! round after each, so the numbers must be equal.
#![allow(clippy::expect_used, reason = "a failure ends the module")]

use sulcus_kernels::inference::{
    ConvKernel, Emulation, InputTransform, Int8Weights, LayerInput, LayerOutput, PackedConv, PackedConvTranspose,
    Pooling, Quantization, ValuesMut, pool,
};
use sulcus_kernels::{InstructionSet, instruction_set};

/// Pseudo-random values in [-1, 1).
struct Noise(u64);

impl Noise {
    fn values(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }
}

/// FNV-1a over the bits of values.
struct Digest(u64);

impl Digest {
    fn add(&mut self, values: &[f32]) {
        for value in values {
            assert!(value.is_finite(), "a value was not written");
            self.0 = (self.0 ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A tensor with a transform.
struct Tensor {
    values: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Tensor {
    fn new(noise: &mut Noise, channels: usize, voxels: usize) -> Self {
        let [values, scale, shift] = [channels * voxels, channels, channels].map(|count| noise.values(count));
        Self { values, scale, shift }
    }

    fn input(&self) -> LayerInput<'_> {
        LayerInput::transformed(
            &self.values,
            InputTransform { scale: &self.scale, shift: &self.shift, slope: 0.01 },
        )
    }
}

fn conv(noise: &mut Noise, digest: &mut Digest, kernel: ConvKernel, size: [usize; 3]) {
    let taps: usize = kernel.kernel.iter().product();
    let weight = noise.values(kernel.outputs * kernel.inputs * taps);
    let bias = noise.values(kernel.outputs);
    let conv = PackedConv::new(kernel, &weight, Some(&bias)).expect("a valid kernel");
    let voxels = size.iter().product();
    let cut = kernel.inputs.div_ceil(2);
    let parts = [cut, kernel.inputs - cut].into_iter().filter(|channels| *channels > 0);
    let tensors: Vec<Tensor> = parts.map(|channels| Tensor::new(noise, channels, voxels)).collect();
    let inputs: Vec<LayerInput<'_>> = tensors.iter().map(Tensor::input).collect();
    let plane: usize = conv.output_size(size).iter().product();
    let mut y = vec![f32::NAN; kernel.outputs * plane];
    let (mut mean, mut variance) = (vec![f32::NAN; kernel.outputs], vec![f32::NAN; kernel.outputs]);
    let residual = Tensor::new(noise, kernel.outputs, plane);
    let output = LayerOutput::raw(&mut y).with_moments(&mut mean, &mut variance).with_residual(residual.input());
    conv.forward(1, size, &inputs, LayerOutput { slope: 0.1, ..output }).expect("valid shapes");
    for values in [&y, &mean, &variance] {
        digest.add(values);
    }
}

fn int8_conv(noise: &mut Noise, digest: &mut Digest, kernel: ConvKernel, size: [usize; 3]) {
    let taps: usize = kernel.kernel.iter().product();
    let weight = noise.values(kernel.outputs * kernel.inputs * taps);
    let weight: Vec<i8> = weight.iter().map(|value| (value * 127.0) as i8).collect();
    let scale = noise.values(kernel.outputs).iter().map(|value| 0.01 + value.abs() / 100.0).collect::<Vec<_>>();
    let bias: Vec<i32> = noise.values(kernel.outputs).iter().map(|value| (value * 1e4) as i32).collect();
    let input = Quantization { scale: 0.01, zero_point: 120 };
    let weights = Int8Weights { weight: &weight, scale: &scale, bias: &bias, input };
    let conv = PackedConv::int8(kernel, weights, Emulation::Allowed).expect("a valid kernel");
    let tensor = Tensor::new(noise, kernel.inputs, size.iter().product());
    let plane: usize = conv.output_size(size).iter().product();
    let mut y = vec![f32::NAN; kernel.outputs * plane];
    conv.forward(1, size, &[tensor.input()], LayerOutput::raw(&mut y)).expect("valid shapes");
    digest.add(&y);
}

fn conv_transpose(noise: &mut Noise, digest: &mut Digest, channels: [usize; 2], size: [usize; 3]) {
    let stride = [1, 2, 2];
    let weight = noise.values(channels[0] * channels[1] * stride.iter().product::<usize>());
    let bias = noise.values(channels[1]);
    let conv = PackedConvTranspose::new(channels, stride, &weight, Some(&bias)).expect("a valid kernel");
    let voxels: usize = size.iter().product();
    let tensor = Tensor::new(noise, channels[0], voxels);
    let mut y = vec![f32::NAN; channels[1] * voxels * 4];
    conv.forward(1, size, &[tensor.input()], LayerOutput::raw(&mut y)).expect("valid shapes");
    digest.add(&y);
}

/// The digest of all layers; odd if they used SIMD128, else even.
#[expect(unsafe_code, reason = "an exported name")]
#[unsafe(no_mangle)]
pub extern "C" fn digest() -> u64 {
    let (mut noise, mut digest) = (Noise(0x9e37_79b9_7f4a_7c15), Digest(0xcbf2_9ce4_8422_2325));
    for (inputs, outputs) in [(1, 1), (1, 16), (3, 5), (16, 16), (17, 33), (40, 48)] {
        for kernel in [[1, 1, 1], [1, 3, 3], [3, 3, 3], [1, 1, 5]] {
            for stride in [[1, 1, 1], [1, 2, 2], [2, 2, 2]] {
                for size in [[1, 5, 1], [2, 3, 2], [3, 4, 7], [4, 9, 22]] {
                    let kernel = ConvKernel { inputs, outputs, kernel, stride };
                    conv(&mut noise, &mut digest, kernel, size);
                    int8_conv(&mut noise, &mut digest, kernel, size);
                }
            }
        }
        conv_transpose(&mut noise, &mut digest, [inputs, outputs], [2, 3, 7]);
    }
    let tensor = Tensor::new(&mut noise, 3, 4 * 6 * 10);
    for kind in [Pooling::Max, Pooling::Average] {
        let mut y = vec![f32::NAN; 3 * 2 * 3 * 5];
        pool(kind, [1, 3], [4, 6, 10], [2, 2, 2], &tensor.input(), ValuesMut::F32(&mut y)).expect("valid shapes");
        digest.add(&y);
    }
    digest.0 << 1 | u64::from(instruction_set() == InstructionSet::Simd128)
}
