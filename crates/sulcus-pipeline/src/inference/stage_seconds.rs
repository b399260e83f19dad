use web_time::Instant;

/// Wall-clock seconds of the stages of one prediction, all models together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageSeconds {
    /// Reorienting, normalising and resampling.
    pub preprocess: f64,
    /// The sliding window, resampling of logits and the choice of labels, which happen at the same time.
    pub infer: f64,
    /// Postprocessing of the whole mask.
    pub postprocess: f64,
}

/// Adds the duration of a piece of work.
pub(super) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *seconds += start.elapsed().as_secs_f64();
    result
}
