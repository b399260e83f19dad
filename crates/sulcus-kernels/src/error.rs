//! What a kernel refuses.

use std::fmt;

/// Arguments that do not fit together. Nothing was computed and no output was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice does not have the length that the shape asks for.
    Length {
        /// Which argument.
        argument: &'static str,
        /// The length that the shape asks for, in elements.
        expected: usize,
        /// The length found, in elements.
        found: usize,
    },
    /// A shape that the kernel does not compute.
    Shape {
        /// Which rule the shape breaks.
        rule: &'static str,
    },
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { argument, expected, found } => {
                write!(f, "`{argument}` should have {expected} elements for this shape, but has {found}")
            }
            Self::Shape { rule } => write!(f, "this shape can't be computed: {rule}"),
        }
    }
}

impl std::error::Error for KernelError {}
