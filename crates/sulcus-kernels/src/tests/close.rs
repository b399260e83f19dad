//! Comparison of single-precision results with double-precision references.

/// Asserts that no value differs by more than `tolerance` times the largest expected value.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3, |scale: f64, value| scale.max(value.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= tolerance * scale, "{what}[{i}]: found {found}, expected {expected}, scale {scale}");
    }
}
