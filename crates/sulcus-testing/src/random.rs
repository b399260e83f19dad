/// A deterministic generator of random numbers (Marsaglia's xorshift64).
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "an endless generator is not used as an iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Numbers in [-1, 1), the same on every machine.
pub struct Noise(pub u64);

impl Noise {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "an endless generator is not used as an iterator")]
    pub fn next(&mut self) -> f32 {
        // Knuth's MMIX generator; its high bits have the best quality.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1 << 23) as f32) - 1.0
    }

    /// The next `n` numbers times `scale`.
    pub fn take(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.next() * scale).collect()
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() + 1.0) * 0.5) * n as f32) as usize % n.max(1)
    }
}
