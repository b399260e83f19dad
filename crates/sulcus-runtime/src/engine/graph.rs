//! Properties of a model's graph that every engine uses.

/// Name of the graph's input, `[N, C, (D,) H, W]`.
pub(super) const INPUT: &str = "image";
/// Name of the graph's output, `[N, K, (D,) H, W]`.
pub(super) const OUTPUT: &str = "logits";

/// The default number of threads of an engine: all that the process may use.
#[cfg(any(feature = "ort", feature = "native", not(target_family = "wasm")))]
pub(crate) fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
