//! Layers that are matrix products: 1×1×1 convolutions and transposed convolutions whose kernel equals their stride.

use burn::tensor::Tensor;

/// A convolution with kernel 1 and stride 1.
///
/// # Shapes
/// `input` `[N, in, D, H, W]`, `weight` `[out, in, 1, 1, 1]`, `bias` `[out]` → `[N, out, D, H, W]`.
pub(in crate::network) fn pointwise(input: Tensor<5>, weight: Tensor<5>, bias: Tensor<1>) -> Tensor<5> {
    let [n, inputs, d, h, w] = input.dims();
    let [outputs, ..] = weight.dims();
    let product = weight.reshape([1, outputs, inputs]).matmul(input.reshape([n, inputs, d * h * w]));
    (product + bias.reshape([1, outputs, 1])).reshape([n, outputs, d, h, w])
}

/// A transposed convolution whose kernel equals its stride: a 1×1×1 convolution to `out` channels for each element of the
/// kernel, whose elements are then placed beside each other.
///
/// # Shapes
/// `input` `[N, in, D, H, W]`, `weight` `[in, out, kD, kH, kW]`, `bias` `[out]` → `[N, out, D · kD, H · kH, W · kW]`.
pub(in crate::network) fn up(input: Tensor<5>, weight: Tensor<5>, bias: Tensor<1>) -> Tensor<5> {
    let [n, inputs, d, h, w] = input.dims();
    let [_, outputs, kd, kh, kw] = weight.dims();
    let elements = outputs * kd * kh * kw;
    let weight = weight.reshape([1, inputs, elements]).swap_dims(1, 2);
    let product = weight.matmul(input.reshape([n, inputs, d * h * w]));
    let maps = product.reshape([n, outputs, kd, kh, kw, d, h, w]).permute([0, 1, 5, 2, 6, 3, 7, 4]);
    maps.reshape([n, outputs, d * kd, h * kh, w * kw]) + bias.reshape([1, outputs, 1, 1, 1])
}
