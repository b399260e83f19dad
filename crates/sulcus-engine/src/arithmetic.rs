//! The precision of the arithmetic.

/// In which precision a network is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Arithmetic {
    /// Single precision.
    #[default]
    Single,
    /// Products of bfloat16 values, summed in single precision; values between layers are stored in bfloat16. The last layers, whose
    /// outputs are the logits, compute in single precision. Needs a processor with AVX512-BF16.
    Bfloat16,
}

impl Arithmetic {
    /// Whether this processor has the instructions.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Single => true,
            Self::Bfloat16 => sulcus_kernels::inference::Precision::Bf16.is_supported(),
        }
    }
}
