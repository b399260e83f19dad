use std::ops::{Add, AddAssign};

/// NumPy's sum of contiguous values: pairs of halves, down to blocks of 128 with eight running sums.
pub(super) fn pairwise_sum<T: Copy + Default + Add<Output = T> + AddAssign>(values: &[T]) -> T {
    const BLOCK: usize = 128;
    let n = values.len();
    if n < 8 {
        return values.iter().fold(T::default(), |sum, v| sum + *v);
    }
    if n > BLOCK {
        let half = n / 2 / 8 * 8;
        let (left, right) = values.split_at(half);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [T::default(); 8];
    if let Some((first, others)) = eights.split_first() {
        sums = *first;
        for eight in others {
            sums.iter_mut().zip(eight).for_each(|(sum, v)| *sum += *v);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, v| sum + *v)
}
