//! Test values, and the comparison of results to the bit.

/// Pseudo-random values in [-1, 1).
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Asserts that `work` gives the same result on one thread and on three.
pub(crate) fn assert_same_on_any_threads<R: PartialEq + std::fmt::Debug + Send>(
    work: impl Fn() -> R + Send + Sync,
) {
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work);
    let (one, three) = (on(1), on(3));
    assert!(one == three, "the result depends on the number of threads");
}

/// The bits of values, which distinguish −0 from 0 and make NaN comparable.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
