/// The quantile `share` (0 to 1) of sorted values, interpolated linearly as NumPy does by default; 0 without values.
pub fn quantile<T: Copy + Into<f64>>(sorted: &[T], share: f64) -> f64 {
    let rank = share * sorted.len().saturating_sub(1) as f64;
    let at = |rank: f64| sorted.get(rank as usize).copied().map(Into::into).unwrap_or_default();
    let (below, above) = (at(rank.floor()), at(rank.ceil()));
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_equal_numpys() {
        assert_eq!(quantile(&[1.0_f32, 2.0, 4.0, 8.0], 0.5), 3.0);
        assert_eq!(quantile(&[1.0_f64, 2.0, 4.0, 8.0], 0.75), 5.0);
        assert_eq!((quantile(&[3.0], 0.995), quantile::<f64>(&[], 0.5)), (3.0, 0.0));
    }
}
