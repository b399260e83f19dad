//! Phrases that several messages share.

/// `36 × 50 × 35`.
pub(crate) fn times<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" × ")
}

/// `8.0 GB`.
pub(crate) fn gigabytes(bytes: u64) -> String {
    match bytes as f64 / 1e9 {
        small if small < 0.1 => format!("{:.0} MB", small * 1e3),
        large => format!("{large:.1} GB"),
    }
}
