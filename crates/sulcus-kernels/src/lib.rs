//! Convolutions, normalisations and their gradients for CPUs.
