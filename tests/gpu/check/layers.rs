//! Layers by themselves: each form on the device against Burn's operation on the processor, and the time of each form.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use serde_json::json;
use sulcus_train::{GpuForms, InputGradientForm, LayerForm, gpu_convolution, gpu_transposed_convolution};

use crate::agreement::relative;
use crate::kinds::noise;
use crate::{Args, Failure, Outcome, open};

/// Of the greatest value: sums of some thousand products in another order.
const TOLERANCE: f32 = 1e-4;

/// A layer and its input.
#[derive(Debug, Clone, Copy)]
struct Layer {
    name: &'static str,
    /// `[N, in, D, H, W]`.
    input: [usize; 5],
    outputs: usize,
    kernel: [usize; 3],
    /// Of a convolution; the stride of a transposed convolution is its kernel.
    stride: [usize; 3],
    transposed: bool,
}

const fn convolution(
    name: &'static str,
    input: [usize; 5],
    outputs: usize,
    kernel: [usize; 3],
    stride: [usize; 3],
) -> Layer {
    Layer { name, input, outputs, kernel, stride, transposed: false }
}

const fn transposed(name: &'static str, input: [usize; 5], outputs: usize, kernel: [usize; 3]) -> Layer {
    Layer { name, input, outputs, kernel, stride: kernel, transposed: true }
}

/// Odd sizes and channels, and those of usual networks.
const COMPARED: [Layer; 12] = [
    convolution("3x3x3", [2, 3, 6, 7, 9], 5, [3, 3, 3], [1, 1, 1]),
    convolution("3x3x3, 32 channels", [2, 32, 16, 16, 16], 32, [3, 3, 3], [1, 1, 1]),
    convolution("3x3x3, stride 2", [1, 16, 4, 6, 8], 17, [3, 3, 3], [2, 2, 2]),
    convolution("1x3x5, stride 1, 2, 1", [2, 4, 5, 6, 7], 3, [1, 3, 5], [1, 2, 1]),
    convolution("3x1x1, stride above the kernel", [2, 4, 5, 6, 8], 3, [3, 1, 1], [2, 2, 2]),
    convolution("slices 3x3", [2, 5, 1, 9, 8], 4, [1, 3, 3], [1, 1, 1]),
    convolution("1x1x1", [1, 33, 3, 8, 6], 18, [1, 1, 1], [1, 1, 1]),
    convolution("1x1x1, 64 channels", [2, 64, 16, 16, 16], 32, [1, 1, 1], [1, 1, 1]),
    convolution("slices 1x1", [4, 32, 1, 32, 32], 3, [1, 1, 1], [1, 1, 1]),
    transposed("up 2x2x2", [2, 6, 3, 4, 5], 4, [2, 2, 2]),
    transposed("up 1x2x2", [1, 64, 4, 8, 8], 32, [1, 2, 2]),
    transposed("up 2x2, slices", [2, 7, 1, 5, 4], 6, [1, 2, 2]),
];

/// The layers of nnU-Net's 3-D network on a patch of 128³ that take most of its time.
const TIMED: [Layer; 5] = [
    convolution("3x3x3, 32 of 32 at 64³", [2, 32, 64, 64, 64], 32, [3, 3, 3], [1, 1, 1]),
    convolution("3x3x3, 64 of 32 at 64³, stride 2", [2, 32, 64, 64, 64], 64, [3, 3, 3], [2, 2, 2]),
    convolution("3x3x3, 256 of 256 at 16³", [2, 256, 16, 16, 16], 256, [3, 3, 3], [1, 1, 1]),
    convolution("1x1x1, 3 of 32 at 64³", [2, 32, 64, 64, 64], 3, [1, 1, 1], [1, 1, 1]),
    transposed("up, 32 of 64 at 32³", [2, 64, 32, 32, 32], 32, [2, 2, 2]),
];

impl Layer {
    /// Burn's operations, and the other forms that change this layer.
    fn forms(&self) -> Vec<(&'static str, GpuForms)> {
        let operation = GpuForms::OPERATIONS;
        let mut forms = vec![("operation", operation)];
        if self.transposed {
            forms.push(("matrix product", operation.with_transposed(LayerForm::MatrixProduct)));
        } else if self.kernel == [1; 3] {
            forms.push(("matrix product", operation.with_pointwise(LayerForm::MatrixProduct)));
        } else if self.input[2] > 1 {
            let of = |form| operation.with_input_gradient(form);
            forms.push(("reversed kernel", of(InputGradientForm::ReversedKernel)));
            forms.push(("matrix products", of(InputGradientForm::MatrixProducts)));
        }
        forms
    }

    /// The input, the weights and the bias, with gradients.
    fn tensors(&self, device: &Device) -> (Tensor<5>, Tensor<5>, Tensor<1>) {
        let [_, inputs, ..] = self.input;
        let [a, b] = if self.transposed { [inputs, self.outputs] } else { [self.outputs, inputs] };
        let [d, h, w] = self.kernel;
        let five = |shape: [usize; 5], seed| {
            Tensor::<5>::from_data(TensorData::new(noise(&shape, seed), shape), device).require_grad()
        };
        let bias = TensorData::new(noise(&[self.outputs], 2), [self.outputs]);
        (five(self.input, 3), five([a, b, d, h, w], 1), Tensor::<1>::from_data(bias, device).require_grad())
    }

    fn forward(&self, tensors: &(Tensor<5>, Tensor<5>, Tensor<1>), forms: GpuForms) -> Tensor<5> {
        let (input, weight, bias) = tensors.clone();
        if self.transposed {
            gpu_transposed_convolution(input, weight, bias, forms.transposed)
        } else {
            gpu_convolution(input, weight, bias, self.stride, forms)
        }
    }

    /// The output and the gradients of the input, the weights and the bias for a weighted sum of the output.
    fn compute(&self, device: &Device, forms: GpuForms) -> [Vec<f32>; 4] {
        let tensors = self.tensors(device);
        let output = self.forward(&tensors, forms);
        let shape = output.dims();
        let weights = Tensor::<5>::from_data(TensorData::new(noise(&shape, 77), shape), device);
        let gradients = (output.clone() * weights).sum().backward();
        let (input, weight, bias) = tensors;
        let five = |tensor: Tensor<5>| tensor.try_into_vec_as::<f32>().unwrap();
        [
            five(output),
            five(input.grad(&gradients).unwrap()),
            five(weight.grad(&gradients).unwrap()),
            bias.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap(),
        ]
    }
}

/// Each form of each layer against Burn's operation on the processor.
pub(crate) fn agree(args: &Args) -> Outcome {
    let device = open(args)?.0.autodiff();
    let processor = Device::flex().autodiff();
    let (mut greatest, mut wrong, mut compared) = (0.0_f32, vec![], 0);
    for layer in COMPARED {
        let expected = layer.compute(&processor, GpuForms::OPERATIONS);
        for (form, forms) in layer.forms() {
            let found = layer.compute(&device, forms);
            compared += 1;
            for ((what, found), expected) in
                ["output", "input gradient", "weight gradient", "bias gradient"].iter().zip(&found).zip(&expected)
            {
                let apart = relative(found, expected);
                if apart.is_nan() || apart > TOLERANCE {
                    wrong.push(format!("{} as {form}: {what} {apart:.1e}", layer.name));
                }
                greatest = greatest.max(apart);
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::Failed(wrong.join("; ")));
    }
    Ok(json!({ "summary": format!("{compared} layers and forms: {greatest:.1e} apart"), "apart": greatest }))
}

/// Milliseconds of forward and backward pass of each form.
pub(crate) fn time(args: &Args) -> Outcome {
    let device = open(args)?.0.autodiff();
    let mut results = serde_json::Map::new();
    for layer in TIMED {
        let mut of_layer = serde_json::Map::new();
        for (form, forms) in layer.forms() {
            let tensors = layer.tensors(&device);
            let mut times = Vec::new();
            for _ in 0..args.steps.max(3) {
                let start = Instant::now();
                let output = layer.forward(&tensors, forms);
                let gradients = output.square().sum().backward();
                // Reading one value waits for the device.
                let gradient = tensors.0.grad(&gradients).unwrap();
                gradient.sum().try_into_scalar::<f32>().map_err(|e| format!("{e:?}"))?;
                times.push(1e3 * start.elapsed().as_secs_f64());
            }
            // The first passes compile and choose kernels.
            let mut later = times.split_off(2.min(times.len() - 1));
            later.sort_by(f64::total_cmp);
            of_layer.insert(form.to_owned(), json!({ "ms": later[later.len() / 2], "first_ms": times[0] }));
        }
        results.insert(layer.name.to_owned(), of_layer.into());
    }
    let text: Vec<String> = results
        .iter()
        .filter_map(|(layer, forms)| {
            let each = forms
                .as_object()?
                .iter()
                .map(|(form, t)| format!("{form} {:.1}", t["ms"].as_f64().unwrap_or(f64::NAN)));
            Some(format!("{layer}: {} ms", each.collect::<Vec<_>>().join(", ")))
        })
        .collect();
    Ok(json!({ "summary": text.join("; "), "layers": results }))
}
