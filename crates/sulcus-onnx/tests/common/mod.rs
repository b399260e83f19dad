//! Damaged files.

/// Copies of a file with one to four random bytes changed. The same seed gives the same copies.
pub(crate) fn mutated(file: &[u8], seed: u32, count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    (0..count).map(move |_| {
        let mut mutated = file.to_vec();
        for _ in 0..=random(3) {
            let at = random(mutated.len());
            mutated[at] = random(256) as u8;
        }
        mutated
    })
}
