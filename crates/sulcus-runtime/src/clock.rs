//! Elapsed time, where there is a clock: `std::time::Instant` panics on `wasm32-unknown-unknown`.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) struct Stopwatch(std::time::Instant);

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn elapsed_secs(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) struct Stopwatch;

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self
    }

    pub(crate) fn elapsed_secs(&self) -> f64 {
        0.0
    }
}
