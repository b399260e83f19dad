//! Draws training patches: prepared cases, random patches from them, augmentation, and the threads that prepare batches.

pub(crate) mod augment;
pub(crate) mod loader;
pub(crate) mod regions;
pub(crate) mod sampler;
pub(crate) mod training_case;
