//! The layers of the networks, for 2-D and 3-D.
//!
//! All maps are `[N, C, D, H, W]`; a 2-D network has D = 1 and kernels of depth 1. On the processor each layer is one
//! operation of [`super::cpu`]; on a GPU the same layer is composed of Burn's operations.
//!
//! The output of a layer has the type of its input. With an input in half precision, convolutions and pooling compute in it,
//! with copies of the weights; normalisations and activations compute in single precision, and only their result is rounded.

use burn::module::{Module, Param};
use burn::nn::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::module::{avg_pool2d, conv_transpose2d, conv_transpose3d, conv2d, conv3d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, ConvTransposeOptions, MaxPoolOptions};
use burn::tensor::{Device, FloatDType, Slice, Tensor};
use sulcus_kernels::Bf16Convolution;
use sulcus_model::{Activation, Norm};

use super::gpu::{self, GpuForms, LayerForm};
use super::weight_init::{WeightInit, zero_bias};
use super::{InputGradientForm, cpu};

/// A convolution with odd kernels, padded by half of them.
#[derive(Module, Debug)]
pub(crate) struct Conv {
    /// `[out, in, D, H, W]`
    pub(crate) weight: Param<Tensor<5>>,
    /// `[out]`
    pub(crate) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) stride: [usize; 3],
    #[module(skip)]
    pub(crate) forms: GpuForms,
    /// Set where the processor computes the products in bfloat16.
    #[module(skip)]
    pub(crate) bf16: Option<Bf16Convolution>,
}

impl Conv {
    pub(crate) fn new(weight: Param<Tensor<5>>, stride: [usize; 3], device: &Device) -> Self {
        let [outputs, ..] = weight.dims();
        Self { weight, bias: zero_bias(outputs, device), stride, forms: GpuForms::for_device(device), bf16: None }
    }

    /// Kernel along D, H, W.
    pub(crate) fn kernel(&self) -> [usize; 3] {
        let [_, _, d, h, w] = self.weight.dims();
        [d, h, w]
    }

    /// `behind` holds maps whose channels follow those of `input`, as if both were concatenated.
    ///
    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D / stride, H / stride, W / stride]`, rounded up.
    pub(crate) fn forward(&self, input: Tensor<5>, behind: Option<Tensor<5>>) -> Tensor<5> {
        if cpu::is_on(&input) {
            let settings = cpu::ConvSettings { stride: self.stride, bf16: self.bf16 };
            return cpu::convolve(input, behind, self.weight.val(), self.bias.val(), settings);
        }
        self.by_burn(input, behind)
    }

    /// The same, composed of Burn's operations.
    fn by_burn(&self, input: Tensor<5>, behind: Option<Tensor<5>>) -> Tensor<5> {
        let input = match behind {
            Some(behind) => Tensor::cat(vec![input, behind], 1),
            None => input,
        };
        gpu_convolution(input, self.weight.val(), self.bias.val(), self.stride, self.forms)
    }
}

/// A convolution as the networks compute it on a GPU, by itself: for checks and benches. It is padded by half of its kernel,
/// whose edges are odd, and computes in the type of its input.
///
/// # Shapes
/// `input` `[N, in, D, H, W]`, `weight` `[out, in, kD, kH, kW]`, `bias` `[out]` → `[N, out, D / stride, H / stride, W / stride]`,
/// rounded up.
pub fn gpu_convolution(
    input: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
    stride: [usize; 3],
    forms: GpuForms,
) -> Tensor<5> {
    let (weight, bias) = (like(weight, &input), like(bias, &input));
    let [outputs, inputs, kd, kh, kw] = weight.dims();
    let (input, [sd, sh, sw]) = skip_unseen(input, [kd, kh, kw], stride);
    if [kd, kh, kw] == [1; 3] && forms.pointwise == LayerForm::MatrixProduct {
        return gpu::pointwise(input, weight, bias);
    }
    let [n, c, d, h, w] = input.dims();
    if d == 1 && kd == 1 {
        let options = ConvOptions::new([sh, sw], [kh / 2, kw / 2], [1, 1], 1);
        let weight = weight.reshape([outputs, inputs, kh, kw]);
        let output = conv2d(input.reshape([n, c, h, w]), weight, Some(bias), options);
        let [n, c, h, w] = output.dims();
        return output.reshape([n, c, 1, h, w]);
    }
    if forms.input_gradient != InputGradientForm::Operation {
        return gpu::convolve(input, weight, bias, [sd, sh, sw], forms.input_gradient);
    }
    let options = ConvOptions::new([sd, sh, sw], [kd / 2, kh / 2, kw / 2], [1, 1, 1], 1);
    conv3d(input, weight, Some(bias), options)
}

/// A transposed convolution whose kernel equals its stride, as the networks compute it on a GPU, by itself: for checks and
/// benches. It computes in the type of its input.
///
/// # Shapes
/// `input` `[N, in, D, H, W]`, `weight` `[in, out, kD, kH, kW]`, `bias` `[out]` → `[N, out, D · kD, H · kH, W · kW]`.
pub fn gpu_transposed_convolution(
    input: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
    form: LayerForm,
) -> Tensor<5> {
    let (weight, bias) = (like(weight, &input), like(bias, &input));
    if form == LayerForm::MatrixProduct {
        return gpu::up(input, weight, bias);
    }
    let [inputs, outputs, sd, sh, sw] = weight.dims();
    let [n, c, d, h, w] = input.dims();
    if d == 1 && sd == 1 {
        let options = ConvTransposeOptions::new([sh, sw], [0, 0], [0, 0], [1, 1], 1);
        let weight = weight.reshape([inputs, outputs, sh, sw]);
        let output = conv_transpose2d(input.reshape([n, c, h, w]), weight, Some(bias), options);
        let [n, c, h, w] = output.dims();
        return output.reshape([n, c, 1, h, w]);
    }
    let options = ConvTransposeOptions::new([sd, sh, sw], [0; 3], [0; 3], [1; 3], 1);
    conv_transpose3d(input, weight, Some(bias), options)
}

/// A transposed convolution whose kernel equals its stride: each output depends on one input position.
#[derive(Module, Debug)]
pub(crate) struct Up {
    /// `[in, out, D, H, W]`
    pub(crate) weight: Param<Tensor<5>>,
    /// `[out]`
    pub(crate) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) form: LayerForm,
}

impl Up {
    pub(crate) fn new(channels: [usize; 2], stride: [usize; 3], init: &mut WeightInit, device: &Device) -> Self {
        let [inputs, outputs] = channels;
        let [d, h, w] = stride;
        let weight = init.linear([inputs, outputs, d, h, w], inputs, device);
        Self { weight, bias: zero_bias(outputs, device), form: GpuForms::for_device(device).transposed }
    }

    /// Along D, H, W.
    pub(crate) fn stride(&self) -> [usize; 3] {
        let [_, _, d, h, w] = self.weight.dims();
        [d, h, w]
    }

    /// # Shapes
    /// `[N, in, D, H, W]` → `[N, out, D · stride, H · stride, W · stride]`.
    pub(crate) fn forward(&self, input: Tensor<5>) -> Tensor<5> {
        if cpu::is_on(&input) {
            return cpu::up(input, self.weight.val(), self.bias.val());
        }
        self.by_burn(input)
    }

    /// The same, composed of Burn's operations.
    fn by_burn(&self, input: Tensor<5>) -> Tensor<5> {
        gpu_transposed_convolution(input, self.weight.val(), self.bias.val(), self.form)
    }
}

/// A normalisation. [`Self::forward`] also applies the following activation, in one pass.
#[derive(Module, Debug)]
pub(crate) enum NormLayer {
    /// Over batch and space. Burn's running variance averages the biased variance of the batches, PyTorch's the unbiased one:
    /// with n values per channel they differ by the factor n / (n − 1).
    Batch(BatchNorm),
    /// Over space, for each case.
    Instance(InstanceNorm),
}

impl NormLayer {
    pub(crate) fn new(norm: Norm, channels: usize, device: &Device) -> Self {
        match norm {
            Norm::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
            Norm::Instance => Self::Instance(InstanceNormConfig::new(channels).init(device)),
        }
    }

    /// Normalises, adds `beside` if there is one, and applies the activation if there is one.
    ///
    /// # Shapes
    /// All `[N, C, D, H, W]`.
    pub(crate) fn forward(
        &self,
        input: Tensor<5>,
        beside: Option<Tensor<5>>,
        activation: Option<Activation>,
    ) -> Tensor<5> {
        if cpu::is_on(&input) {
            return match self {
                Self::Batch(norm) => cpu::batch_norm(norm, input, beside, activation),
                Self::Instance(norm) => cpu::instance_norm(norm, input, beside, activation),
            };
        }
        self.by_burn(input, beside, activation)
    }

    /// The same, composed of Burn's operations.
    fn by_burn(&self, input: Tensor<5>, beside: Option<Tensor<5>>, activation: Option<Activation>) -> Tensor<5> {
        let kept = FloatDType::from(input.dtype());
        let input = input.cast(FloatDType::F32);
        let normalised = match self {
            Self::Batch(norm) => norm.forward(input),
            Self::Instance(norm) => norm.forward(input),
        };
        let sum = match beside {
            Some(beside) => normalised + beside.cast(FloatDType::F32),
            None => normalised,
        };
        let active = match activation {
            None => sum,
            Some(Activation::Relu) => relu(sum),
            Some(Activation::LeakyRelu { slope }) => leaky_relu(sum, f64::from(slope)),
        };
        active.cast(kept)
    }

    /// The number of running statistics.
    pub(crate) fn running_values(&self) -> usize {
        match self {
            Self::Batch(norm) => norm.running_mean.value().dims()[0] + norm.running_var.value().dims()[0],
            Self::Instance(_) => 0,
        }
    }
}

/// Converts a parameter to the type of the maps.
fn like<const D: usize>(parameter: Tensor<D>, maps: &Tensor<5>) -> Tensor<D> {
    parameter.cast(FloatDType::from(maps.dtype()))
}

/// Removes the input positions that a convolution skips, and returns the remaining strides.
///
/// Along an axis with a stride greater than the kernel, which has size 1 here, burn-cubecl 0.22.1 computes a gradient of zero
/// for the input of a 3-D convolution: its `conv_transpose3d_kernel` ends the window of positions that an input reaches at
/// `start + kernel - stride + 1`, before its start.
fn skip_unseen(input: Tensor<5>, kernel: [usize; 3], stride: [usize; 3]) -> (Tensor<5>, [usize; 3]) {
    let unseen: [bool; 3] = std::array::from_fn(|axis| kernel[axis] == 1 && stride[axis] > 1);
    if unseen == [false; 3] {
        return (input, stride);
    }
    let step = |axis: usize| Slice::new(0, None, if unseen[axis] { stride[axis] as isize } else { 1 });
    let seen = input.slice([Slice::full(), Slice::full(), step(0), step(1), step(2)]);
    (seen, std::array::from_fn(|axis| if unseen[axis] { 1 } else { stride[axis] }))
}

/// The maximum of each window; windows do not overlap.
///
/// # Shapes
/// `[N, C, D, H, W]` → `[N, C, D / window, H / window, W / window]`.
pub(crate) fn max_pool(maps: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    if cpu::is_on(&maps) {
        return cpu::max_pool(maps, window);
    }
    max_pool_by_burn(maps, window)
}

fn max_pool_by_burn(maps: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    in_two_passes(maps, window, |maps, window| max_pool2d(maps, MaxPoolOptions::new(window)))
}

/// The mean of each window; windows do not overlap.
///
/// # Shapes
/// As [`max_pool`].
pub(crate) fn mean_pool(maps: Tensor<5>, window: [usize; 3]) -> Tensor<5> {
    in_two_passes(maps, window, |maps, window| avg_pool2d(maps, AvgPoolOptions::new(window)))
}

/// Burn pools over two axes, so that H and W are pooled first, then D.
fn in_two_passes(
    maps: Tensor<5>,
    [by_d, by_h, by_w]: [usize; 3],
    pool: impl Fn(Tensor<4>, [usize; 2]) -> Tensor<4>,
) -> Tensor<5> {
    let [n, c, d, h, w] = maps.dims();
    let flat = pool(maps.reshape([n, c * d, h, w]), [by_h, by_w]);
    let [_, _, h, w] = flat.dims();
    if by_d == 1 {
        return flat.reshape([n, c, d, h, w]);
    }
    pool(flat.reshape([n, c, d, h * w]), [by_d, 1]).reshape([n, c, d / by_d, h, w])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Gradients, TensorData};

    use super::*;

    /// Relative to the maximum of a tensor: sums of some hundred products in another order.
    const TOLERANCE: f32 = 2e-5;

    fn noise<const D: usize>(shape: [usize; D], seed: u32, device: &Device) -> Tensor<D> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    #[track_caller]
    fn check<const D: usize>(what: &str, ours: Tensor<D>, burns: Tensor<D>) {
        assert_eq!(ours.dims(), burns.dims(), "{what}");
        let (ours, burns): (Vec<f32>, Vec<f32>) =
            (ours.try_into_vec_as().unwrap(), burns.try_into_vec_as().unwrap());
        let scale = burns.iter().fold(1e-3_f32, |scale, v| scale.max(v.abs()));
        for (i, (a, b)) in ours.iter().zip(&burns).enumerate() {
            assert!((a - b).abs() <= TOLERANCE * scale, "{what}[{i}]: {a} and {b}, of {scale}");
        }
    }

    /// The gradients of a weighted sum with different weights.
    fn backward(output: &Tensor<5>) -> Gradients {
        (output.clone() * noise(output.dims(), 77, &output.device())).sum().backward()
    }

    fn parameters<const D: usize>(what: &str, parameter: &Param<Tensor<D>>, ours: &Gradients, burns: &Gradients) {
        let of = |gradients| parameter.val().grad(gradients).unwrap();
        check(what, of(ours), of(burns));
    }

    /// Burn's operations, and each other form of a convolution.
    fn all_forms() -> Vec<GpuForms> {
        let gradients = [InputGradientForm::ReversedKernel, InputGradientForm::MatrixProducts];
        let mut forms = vec![GpuForms::OPERATIONS, GpuForms::default()];
        forms.extend(gradients.map(|form| GpuForms::OPERATIONS.with_input_gradient(form)));
        forms
    }

    #[test]
    fn convolutions_and_gradients_equal_burns() {
        let device = Device::flex().autodiff();
        for (shape, outputs, kernel, stride, behind) in [
            ([2, 3, 6, 7, 9], 5, [3, 3, 3], [1, 1, 1], 4),
            ([1, 16, 4, 6, 8], 17, [3, 3, 3], [2, 2, 2], 0),
            ([2, 4, 5, 6, 7], 3, [1, 3, 5], [1, 2, 1], 2),
            ([2, 5, 1, 9, 8], 4, [1, 3, 3], [1, 1, 1], 3),
            // The stride is larger than the kernel.
            ([2, 4, 5, 6, 8], 3, [3, 1, 1], [2, 2, 2], 2),
            ([1, 33, 1, 8, 6], 18, [1, 1, 1], [1, 1, 1], 0),
        ] {
            let [n, c, d, h, w] = shape;
            let [kd, kh, kw] = kernel;
            let weight = Param::from_tensor(noise([outputs, c + behind, kd, kh, kw], 1, &device));
            let mut conv = Conv::new(weight, stride, &device);
            conv.bias = Param::from_tensor(noise([outputs], 2, &device));
            let input = || noise([n, c, d, h, w], 3, &device).require_grad();
            let second = || (behind > 0).then(|| noise([n, behind, d, h, w], 4, &device).require_grad());
            for forms in all_forms() {
                conv.forms = forms;
                let ((a, a2), (b, b2)) = ((input(), second()), (input(), second()));
                let ours = conv.forward(a.clone(), a2.clone());
                let burns = conv.by_burn(b.clone(), b2.clone());
                let (of_ours, of_burns) = (backward(&ours), backward(&burns));
                check("output", ours, burns);
                check("input", a.grad(&of_ours).unwrap(), b.grad(&of_burns).unwrap());
                if let (Some(a2), Some(b2)) = (a2, b2) {
                    check("behind", a2.grad(&of_ours).unwrap(), b2.grad(&of_burns).unwrap());
                }
                parameters("weight", &conv.weight, &of_ours, &of_burns);
                parameters("bias", &conv.bias, &of_ours, &of_burns);
            }
        }
    }

    #[test]
    fn transposed_convolutions_and_gradients_equal_burns() {
        let device = Device::flex().autodiff();
        for (shape, outputs, stride) in
            [([2, 6, 3, 4, 5], 4, [2, 2, 2]), ([1, 5, 2, 3, 7], 3, [1, 2, 2]), ([2, 7, 1, 5, 4], 6, [1, 2, 1])]
        {
            let mut up = Up::new([shape[1], outputs], stride, &mut WeightInit::new(5), &device);
            up.bias = Param::from_tensor(noise([outputs], 2, &device));
            for form in [LayerForm::Operation, LayerForm::MatrixProduct] {
                up.form = form;
                let (a, b) = (noise(shape, 3, &device).require_grad(), noise(shape, 3, &device).require_grad());
                let (ours, burns) = (up.forward(a.clone()), up.by_burn(b.clone()));
                let (of_ours, of_burns) = (backward(&ours), backward(&burns));
                check("output", ours, burns);
                check("input", a.grad(&of_ours).unwrap(), b.grad(&of_burns).unwrap());
                parameters("weight", &up.weight, &of_ours, &of_burns);
                parameters("bias", &up.bias, &of_ours, &of_burns);
            }
        }
    }

    #[test]
    fn normalisations_gradients_and_running_statistics_equal_burns() {
        let device = Device::flex().autodiff();
        let shape = [3, 4, 2, 5, 6];
        for norm in [Norm::Batch, Norm::Instance] {
            for activation in [None, Some(Activation::Relu), Some(Activation::LeakyRelu { slope: 0.01 })] {
                for with_beside in [false, true] {
                    let [ours_layer, burns_layer] = [0, 1].map(|_| NormLayer::new(norm, shape[1], &device));
                    let input = || (noise(shape, 3, &device) * 3.0 + 1.5).detach().require_grad();
                    let beside = || with_beside.then(|| noise(shape, 4, &device).require_grad());
                    let ((a, a2), (b, b2)) = ((input(), beside()), (input(), beside()));
                    let ours = ours_layer.forward(a.clone(), a2.clone(), activation);
                    let burns = burns_layer.by_burn(b.clone(), b2.clone(), activation);
                    let (of_ours, of_burns) = (backward(&ours), backward(&burns));
                    check("output", ours, burns);
                    check("input", a.grad(&of_ours).unwrap(), b.grad(&of_burns).unwrap());
                    if let (Some(a2), Some(b2)) = (a2, b2) {
                        check("beside", a2.grad(&of_ours).unwrap(), b2.grad(&of_burns).unwrap());
                    }
                    if let (NormLayer::Batch(ours), NormLayer::Batch(burns)) = (&ours_layer, &burns_layer) {
                        check("running mean", ours.running_mean.value_sync(), burns.running_mean.value_sync());
                        check("running variance", ours.running_var.value_sync(), burns.running_var.value_sync());
                        let of = |norm: &BatchNorm, gradients| norm.gamma.val().grad(gradients).unwrap();
                        check("gamma", of(ours, &of_ours), of(burns, &of_burns));
                        let of = |norm: &BatchNorm, gradients| norm.beta.val().grad(gradients).unwrap();
                        check("beta", of(ours, &of_ours), of(burns, &of_burns));
                    }
                    // Without gradients a batch normalisation uses its running statistics.
                    let (ours, burns) = (ours_layer.valid(), burns_layer.valid());
                    let plain = noise(shape, 6, &Device::flex());
                    let found = ours.forward(plain.clone(), None, activation);
                    check("in use", found, burns.by_burn(plain, None, activation));
                }
            }
        }
    }

    #[test]
    fn max_pooling_and_gradients_equal_burns() {
        let device = Device::flex().autodiff();
        for (shape, window) in
            [([2, 3, 4, 6, 8], [2, 2, 2]), ([2, 3, 1, 6, 8], [1, 2, 2]), ([1, 2, 4, 3, 5], [2, 1, 1])]
        {
            let (a, b) = (noise(shape, 3, &device).require_grad(), noise(shape, 3, &device).require_grad());
            let (ours, burns) = (max_pool(a.clone(), window), max_pool_by_burn(b.clone(), window));
            let (of_ours, of_burns) = (backward(&ours), backward(&burns));
            check("output", ours, burns);
            check("input", a.grad(&of_ours).unwrap(), b.grad(&of_burns).unwrap());
        }
    }
}
