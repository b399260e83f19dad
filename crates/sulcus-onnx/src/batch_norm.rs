/// A batch normalisation with its running statistics: γ (y − μ) / √(σ² + ε) + β for each channel y.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// γ, `[out]`.
    pub scale: &'a [f32],
    /// β, `[out]`.
    pub shift: &'a [f32],
    /// μ, `[out]`.
    pub mean: &'a [f32],
    /// σ², `[out]`.
    pub variance: &'a [f32],
    /// ε.
    pub epsilon: f64,
}

impl BatchNorm<'_> {
    /// Folds it into the preceding convolution: γ (w·x + b − μ) / √(σ² + ε) + β is a convolution again. It computes in double
    /// precision and rounds once, at the end.
    ///
    /// # Shapes
    /// `weight` `[out, …]`, `bias` `[out]`.
    ///
    /// ```
    /// use sulcus_onnx::BatchNorm;
    ///
    /// let norm = BatchNorm { scale: &[4.0], shift: &[1.0], mean: &[3.0], variance: &[4.0], epsilon: 0.0 };
    /// let (mut weight, mut bias) = ([1.0, 2.0], [5.0]);
    /// norm.fold_into(&mut weight, &mut bias);
    /// assert_eq!((weight, bias), ([2.0, 4.0], [5.0]));
    /// ```
    pub fn fold_into(&self, weight: &mut [f32], bias: &mut [f32]) {
        let per_output = weight.len() / bias.len().max(1);
        let kernels = weight.chunks_exact_mut(per_output.max(1));
        let statistics = self.scale.iter().zip(self.shift).zip(self.mean.iter().zip(self.variance));
        for ((kernel, bias), ((scale, shift), (mean, variance))) in kernels.zip(bias).zip(statistics) {
            let factor = f64::from(*scale) / (f64::from(*variance) + self.epsilon).sqrt();
            for weight in kernel {
                *weight = (f64::from(*weight) * factor) as f32;
            }
            *bias = ((f64::from(*bias) - f64::from(*mean)) * factor + f64::from(*shift)) as f32;
        }
    }
}
