use serde::{Deserialize, Serialize};

/// Scales the loss so that half-precision gradients neither vanish nor overflow (Micikevicius et al. 2018): the scale halves
/// after an overflow, and doubles after [`Self::PATIENCE`] steps without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaler {
    /// The scale is 2 to this power, so that scaling does not round.
    exponent: u32,
    /// Steps since the scale last changed.
    good_steps: u32,
    /// Steps that overflowed, after which no weight was updated.
    skipped: u64,
}

impl Default for LossScaler {
    fn default() -> Self {
        Self { exponent: 16, good_steps: 0, skipped: 0 }
    }
}

impl LossScaler {
    /// Steps without an overflow after which the scale doubles.
    pub const PATIENCE: u32 = 2000;
    /// With a larger scale the sum of squared gradients would overflow single precision.
    const MAX_EXPONENT: u32 = 24;

    /// The factor of the loss.
    pub fn scale(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// The number of steps that overflowed, after which no weight was updated.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Records a step without an overflow.
    pub(crate) fn record_success(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= Self::PATIENCE {
            self.good_steps = 0;
            self.exponent = (self.exponent + 1).min(Self::MAX_EXPONENT);
        }
    }

    /// Records an overflow. Returns false if the scale cannot be lowered any further.
    #[must_use]
    pub(crate) fn record_overflow(&mut self) -> bool {
        self.good_steps = 0;
        self.skipped += 1;
        match self.exponent.checked_sub(1) {
            Some(exponent) => {
                self.exponent = exponent;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_halves_on_overflow_and_doubles_after_patience() {
        let mut scaler = LossScaler::default();
        assert_eq!(scaler.scale(), 65536.0);
        assert!(scaler.record_overflow());
        assert_eq!((scaler.scale(), scaler.skipped()), (32768.0, 1));
        let succeed = |scaler: &mut LossScaler, steps| (0..steps).for_each(|_| scaler.record_success());
        succeed(&mut scaler, LossScaler::PATIENCE - 1);
        assert_eq!(scaler.scale(), 32768.0);
        succeed(&mut scaler, 1);
        assert_eq!(scaler.scale(), 65536.0);
        // An overflow restarts the count.
        succeed(&mut scaler, LossScaler::PATIENCE - 1);
        assert!(scaler.record_overflow());
        succeed(&mut scaler, LossScaler::PATIENCE - 1);
        assert_eq!(scaler.scale(), 32768.0);
        succeed(&mut scaler, 50 * LossScaler::PATIENCE);
        assert_eq!(scaler.scale(), 16_777_216.0);
    }

    #[test]
    fn scale_of_one_is_not_lowered() {
        let mut scaler = LossScaler::default();
        assert!((0..16).all(|_| scaler.record_overflow()));
        assert_eq!(scaler.scale(), 1.0);
        assert!(!scaler.record_overflow());
        assert_eq!((scaler.scale(), scaler.skipped()), (1.0, 17));
    }
}
