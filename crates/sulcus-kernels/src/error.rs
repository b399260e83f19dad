//! What may be wrong with a kernel's input.

/// Input that a kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice doesn't hold what its shape says.
    #[error("{what} has {found} values, its shape asks for {expected}")]
    Length {
        /// The slice.
        what: &'static str,
        /// What the shape multiplies to.
        expected: usize,
        /// The slice's length.
        found: usize,
    },
    /// No such layer exists.
    #[error("{0}")]
    Shape(String),
    /// No such step of an optimiser exists.
    #[error("{0}")]
    Step(String),
    /// A voxel's class is not one of the network's.
    #[error("class {found} among the {classes} classes that the logits have")]
    Class {
        /// The highest class of a voxel that is not ignored.
        found: u8,
        /// Channels of the logits.
        classes: usize,
    },
}

/// Refuses a slice of the wrong length.
pub(crate) fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), KernelError> {
    if found == expected { Ok(()) } else { Err(KernelError::Length { what, expected, found }) }
}

/// The product of the factors, or an error where it does not fit.
pub(crate) fn product(what: &'static str, factors: &[usize]) -> Result<usize, KernelError> {
    factors
        .iter()
        .try_fold(1_usize, |all, &factor| all.checked_mul(factor))
        .ok_or_else(|| KernelError::Shape(format!("{what}: the product of {factors:?} is too large")))
}
