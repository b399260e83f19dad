//! Layers on GPUs. Where Burn's own operation is slow or was found to be wrong on some device, a layer can be computed in
//! another form; [`GpuForms`] selects one for each kind of layer.

mod convolution;
mod product;

use burn::tensor::Device;

pub(super) use convolution::convolve;
pub(super) use product::{pointwise, up};

/// How layers are computed on a GPU. Every form gives the same values up to the order of the additions; the processor's
/// layers do not use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GpuForms {
    /// Transposed convolutions, whose kernel always equals their stride.
    pub transposed: LayerForm,
    /// Convolutions with a kernel of 1 along each axis.
    pub pointwise: LayerForm,
    /// The gradient of the other 3-D convolutions with respect to their input.
    pub input_gradient: InputGradientForm,
}

/// The form of a layer that is a matrix product in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerForm {
    /// Burn's operation for the layer.
    Operation,
    /// A matrix product, and for a transposed convolution a permutation of the axes after it.
    MatrixProduct,
}

/// How the gradient of a convolution with respect to its input is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InputGradientForm {
    /// Burn's operation for it.
    Operation,
    /// A convolution of the output's gradient with the reversed kernel; Burn's operation where the stride is not 1.
    ReversedKernel,
    /// One matrix product for each element of the kernel, whose results are added up.
    MatrixProducts,
}

impl Default for GpuForms {
    /// Matrix products where a layer is one. Burn's `conv_transpose3d` takes about ten times as long for each
    /// multiplication as its `conv3d` (burn issue 5792), and its tuned 1×1 convolutions were found to be wrong on wgpu (burn
    /// issue 5626).
    fn default() -> Self {
        Self {
            transposed: LayerForm::MatrixProduct,
            pointwise: LayerForm::MatrixProduct,
            input_gradient: InputGradientForm::Operation,
        }
    }
}

impl GpuForms {
    /// The forms for a device: [`GpuForms::default`] on CUDA, Burn's operations elsewhere. CubeCL's matrix products gave wrong
    /// values on a software implementation of Vulkan (SwiftShader of Chromium 148), where its convolutions are right.
    pub fn for_device(device: &Device) -> Self {
        // Burn tells the backend only in the debug form of a device.
        if format!("{device:?}").contains("Cuda") { Self::default() } else { Self::OPERATIONS }
    }

    /// Burn's operation for every layer.
    pub const OPERATIONS: Self = Self {
        transposed: LayerForm::Operation,
        pointwise: LayerForm::Operation,
        input_gradient: InputGradientForm::Operation,
    };

    /// These forms with another one for the transposed convolutions.
    #[must_use]
    pub fn with_transposed(self, transposed: LayerForm) -> Self {
        Self { transposed, ..self }
    }

    /// These forms with another one for the convolutions with a kernel of 1.
    #[must_use]
    pub fn with_pointwise(self, pointwise: LayerForm) -> Self {
        Self { pointwise, ..self }
    }

    /// These forms with another one for the gradient of convolutions with respect to their input.
    #[must_use]
    pub fn with_input_gradient(self, input_gradient: InputGradientForm) -> Self {
        Self { input_gradient, ..self }
    }
}
