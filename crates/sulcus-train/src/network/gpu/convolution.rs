//! 3-D convolutions whose gradient with respect to the input can be computed in several forms.

#[cfg(any(feature = "cuda", feature = "vulkan"))]
use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Slice, Tensor};

use super::InputGradientForm;

/// A convolution with odd kernels, padded by half of them.
///
/// # Shapes
/// `input` `[N, in, D, H, W]`, `weight` `[out, in, kD, kH, kW]`, `bias` `[out]` → `[N, out, D / stride, H / stride, W / stride]`,
/// rounded up.
pub(in crate::network) fn convolve(
    input: Tensor<5>,
    weight: Tensor<5>,
    bias: Tensor<1>,
    stride: [usize; 3],
    form: InputGradientForm,
) -> Tensor<5> {
    let (input, weight, bias) = (input.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::convolve_blocks(input, weight, bias, stride, form))
}

fn options(kernel: [usize; 3], stride: [usize; 3]) -> ConvOptions<3> {
    ConvOptions::new(stride, kernel.map(|edge| edge / 2), [1; 3], 1)
}

fn kernel_of(weight: &impl TensorMetadata) -> [usize; 3] {
    let [_, _, d, h, w] = weight.shape().dims();
    [d, h, w]
}

#[backend_extension(Flex, Cube: cfg(any(feature = "cuda", feature = "vulkan")), Autodiff)]
trait GpuConvolution: Backend {
    fn convolve_blocks(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 3],
        form: InputGradientForm,
    ) -> FloatTensor<Self>;
}

/// The forward pass is the same for all forms.
fn forward<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    stride: [usize; 3],
) -> FloatTensor<B> {
    let options = options(kernel_of(&weight), stride);
    B::conv3d(input, weight, Some(bias), options)
}

impl GpuConvolution for Flex {
    fn convolve_blocks(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 3],
        _: InputGradientForm,
    ) -> FloatTensor<Self> {
        forward::<Self>(input, weight, bias, stride)
    }
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
impl GpuConvolution for Cube {
    fn convolve_blocks(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 3],
        _: InputGradientForm,
    ) -> FloatTensor<Self> {
        forward::<Self>(input, weight, bias, stride)
    }
}

impl<B: GpuConvolution, C: CheckpointStrategy> GpuConvolution for Autodiff<B, C> {
    fn convolve_blocks(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: [usize; 3],
        form: InputGradientForm,
    ) -> FloatTensor<Self> {
        let ((input, input_node), (weight, weight_node)) = (input.into_parts(), weight.into_parts());
        let (bias, bias_node) = bias.into_parts();
        let output = B::convolve_blocks(input.clone(), weight.clone(), bias.clone(), stride, form);
        match Convolve.prepare::<C>([input_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                prepared.finish(State::<B> { input, weight, bias, stride, form }, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct Convolve;

#[derive(Debug, Clone)]
struct State<B: Backend> {
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    stride: [usize; 3],
    form: InputGradientForm,
}

impl<B: Backend> Backward<B, 3> for Convolve {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let State { input, weight, bias, stride, form } = ops.state;
        let options = options(kernel_of(&weight), stride);
        let [input_node, weight_node, bias_node] = ops.parents;
        if let Some(node) = weight_node {
            let of_weight =
                B::conv3d_weight_backward(input.clone(), weight.clone(), gradient.clone(), options.clone());
            gradients.register::<B>(node.id, of_weight);
        }
        if let Some(node) = bias_node {
            gradients.register::<B>(node.id, B::conv3d_bias_backward(input.clone(), bias, gradient.clone()));
        }
        if let Some(node) = input_node {
            let of_input = match form {
                InputGradientForm::ReversedKernel if stride == [1; 3] => reversed_kernel::<B>(weight, gradient),
                InputGradientForm::Operation | InputGradientForm::ReversedKernel => {
                    B::conv3d_x_backward(input, weight, gradient, options)
                }
                InputGradientForm::MatrixProducts => {
                    matrix_products::<B>(input.shape().dims(), &weight, &gradient, stride)
                }
            };
            gradients.register::<B>(node.id, of_input);
        }
    }
}

/// The gradient for stride 1: the gradient of the output, convolved with the kernel reversed along each axis and its channels
/// exchanged.
fn reversed_kernel<B: Backend>(weight: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let options = options(kernel_of(&weight), [1; 3]);
    let reversed = B::float_flip(B::float_swap_dims(weight, 0, 1), &[2, 3, 4]);
    B::conv3d(gradient, reversed, None, options)
}

/// For each element of the kernel, the matrix product of its weights with the gradient of the output, added at the positions
/// that the element reads.
fn matrix_products<B: Backend>(
    input: [usize; 5],
    weight: &FloatTensor<B>,
    gradient: &FloatTensor<B>,
    stride: [usize; 3],
) -> FloatTensor<B> {
    let [n, inputs, d, h, w] = input;
    let [_, outputs, od, oh, ow] = gradient.shape().dims();
    let [kd, kh, kw] = kernel_of(weight);
    let (device, dtype) = (gradient.device(), gradient.dtype());
    let padded = [n, inputs, d + kd / 2 * 2, h + kh / 2 * 2, w + kw / 2 * 2];
    let mut sum = B::float_zeros(padded.into(), &device, dtype.into());
    let columns = B::float_reshape(gradient.clone(), [n, outputs, od * oh * ow].into());
    for a in 0..kd {
        for b in 0..kh {
            for c in 0..kw {
                let range = |start: usize| Slice::new(start as isize, Some(start as isize + 1), 1);
                let element = [Slice::full(), Slice::full(), range(a), range(b), range(c)];
                let element = B::float_slice(weight.clone(), &element);
                let element = B::float_swap_dims(B::float_reshape(element, [1, outputs, inputs].into()), 1, 2);
                let product = B::float_matmul(element, columns.clone());
                let product = B::float_reshape(product, [n, inputs, od, oh, ow].into());
                let step = |start: usize, count: usize, step: usize| {
                    Slice::new(start as isize, Some((start + (count - 1) * step + 1) as isize), step as isize)
                };
                let [sd, sh, sw] = stride;
                let read = [Slice::full(), Slice::full(), step(a, od, sd), step(b, oh, sh), step(c, ow, sw)];
                let added = B::float_add(B::float_slice(sum.clone(), &read), product);
                sum = B::float_slice_assign(sum, &read, added);
            }
        }
    }
    let inside = |start: usize, size: usize| Slice::new(start as isize, Some((start + size) as isize), 1);
    let inside = [Slice::full(), Slice::full(), inside(kd / 2, d), inside(kh / 2, h), inside(kw / 2, w)];
    B::float_slice(sum, &inside)
}
