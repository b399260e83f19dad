use sulcus_volume::Label;

use super::blocks::reserve;
use crate::error::IoErrorKind;

/// Converts values to labels, which are integers from 0 to 65535.
pub(crate) struct LabelReader {
    labels: Vec<Label>,
    tolerance: f64,
    invalid: usize,
    example: f64,
}

impl LabelReader {
    /// Scaled values may miss integers by the rounding error of the slope, which headers store in single precision:
    /// 255 · (1/255) is 1.00000006.
    const SLOPE_ROUNDING: f64 = f32::EPSILON as f64;

    pub(crate) fn new(n: usize, scaled: bool) -> Result<Self, IoErrorKind> {
        let tolerance = if scaled { Self::SLOPE_ROUNDING } else { 0.0 };
        Ok(Self { labels: reserve(n)?, tolerance, invalid: 0, example: 0.0 })
    }

    pub(crate) fn read(&mut self, values: &[f64]) {
        let tolerance = self.tolerance;
        // The cast saturates and converts NaN to 0, so a value that is not a label differs from the result.
        let label = |v: f64| (v + 0.5) as Label;
        let is_label = |v: f64| (v - f64::from(label(v))).abs() <= tolerance * v.clamp(1.0, f64::from(Label::MAX));
        self.labels.extend(values.iter().map(|v| label(*v)));
        let invalid = values.iter().filter(|v| !is_label(**v)).count();
        if invalid > 0 && self.invalid == 0 {
            self.example = values.iter().copied().find(|v| !is_label(*v)).unwrap_or_default();
        }
        self.invalid += invalid;
    }

    pub(crate) fn finish(self) -> Result<Vec<Label>, IoErrorKind> {
        if self.invalid > 0 {
            return Err(IoErrorKind::LabelValue { example: self.example, count: self.invalid });
        }
        Ok(self.labels)
    }
}

/// Whether no label is greater than 255. The bits of many labels are combined, which is faster than a comparison each.
pub(crate) fn fit_into_bytes(labels: &[Label]) -> bool {
    const CHUNK: usize = 1 << 14;
    labels.chunks(CHUNK).all(|chunk| chunk.iter().fold(0, |bits, label| bits | label) <= Label::from(u8::MAX))
}
