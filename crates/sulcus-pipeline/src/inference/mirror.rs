use sulcus_model::ModelSpec;

/// The axes (z, y, x) to mirror, one entry per prediction: every combination of the model's mirror axes.
pub(crate) fn flips(spec: &ModelSpec) -> Vec<[bool; 3]> {
    let missing = 3 - spec.network.dimensions.count();
    let combinations = 1_usize << spec.mirror_axes.len();
    let flip = |bits: usize| {
        let mut flip = [false; 3];
        for (bit, axis) in spec.mirror_axes.iter().enumerate() {
            flip[axis + missing] = bits >> bit & 1 == 1;
        }
        flip
    };
    (0..combinations).map(flip).collect()
}

/// Mirrors each channel of `[C, z, y, x]` values.
pub(crate) fn flip_axes(values: &[f32], channels: usize, [tz, ty, tx]: [usize; 3], flip: [bool; 3]) -> Vec<f32> {
    if flip == [false; 3] {
        return values.to_vec();
    }
    let pick = |i: usize, n: usize, flipped: bool| if flipped { n - 1 - i } else { i };
    let mut out = Vec::with_capacity(values.len());
    for c in 0..channels {
        for z in 0..tz {
            for y in 0..ty {
                let row = ((c * tz + pick(z, tz, flip[0])) * ty + pick(y, ty, flip[1])) * tx;
                let row = &values[row..row + tx];
                if flip[2] {
                    out.extend(row.iter().rev());
                } else {
                    out.extend_from_slice(row);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_twice_changes_nothing() {
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|i| i as f32).collect();
        for bits in 0..8_usize {
            let flip = std::array::from_fn(|axis| bits >> axis & 1 == 1);
            let once = flip_axes(&values, 2, [3, 4, 5], flip);
            assert_eq!(once == values, flip == [false; 3]);
            assert_eq!(flip_axes(&once, 2, [3, 4, 5], flip), values);
        }
    }
}
