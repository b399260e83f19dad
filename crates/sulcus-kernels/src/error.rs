//! The error type of the kernels.

/// Why a kernel refused its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The length of a slice does not match its shape.
    #[error("{what} has {found} values, its shape requires {expected}")]
    Length {
        /// The name of the argument.
        what: &'static str,
        /// The number of values that the shape requires.
        expected: usize,
        /// The length of the slice.
        found: usize,
    },
    /// The layer cannot be computed with this shape or configuration.
    #[error("{0}")]
    Shape(String),
    /// The processor has no instructions for a precision, and emulation was not allowed.
    #[error("this processor has no instructions for {0}")]
    Unsupported(&'static str),
    /// The optimizer cannot take this step.
    #[error("{0}")]
    Step(String),
    /// The class of a voxel is not one of the network's classes.
    #[error("class {found} among the {classes} classes that the logits have")]
    Class {
        /// The largest class among the voxels that are not ignored.
        found: u8,
        /// The number of classes.
        classes: usize,
    },
}

/// Returns an error for a slice of the wrong length.
pub(crate) fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    if found == expected { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
}

/// The product of the factors, or an error when it overflows.
pub(crate) fn product(what: &'static str, factors: &[usize]) -> Result<usize, KernelError> {
    factors
        .iter()
        .try_fold(1_usize, |all, &factor| all.checked_mul(factor))
        .ok_or_else(|| KernelError::Shape(format!("{what}: the product of {factors:?} is too large")))
}
