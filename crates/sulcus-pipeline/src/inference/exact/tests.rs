//! Compares with what nnU-Net's own functions computed (`tests/peers/nnunet_numerics.py`), to the bit.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use sulcus_model::Normalisation;

use super::normalize::{Channel, normalize};
use super::window::gaussian;
use crate::inference::tile_grid::tile_starts;
use crate::nnunet::{F16, resample_channel, resample_mask};
use crate::nnunet_functions::{Mask, Normalising, Resampling, Steps, functions, words};

fn checksum(bits: impl Iterator<Item = u64>) -> String {
    (1_u64..).zip(bits).fold(0_u64, |sum, (i, bits)| sum.wrapping_add(bits.wrapping_mul(i))).to_string()
}

#[test]
fn resampling_equals_nnunets() {
    for case in functions().resampling {
        let Resampling { rule, from, to, .. } = case;
        let values: Vec<f64> = match case.dtype.as_str() {
            "f4" => words::<4>(&case.values).into_iter().map(|b| f64::from(f32::from_le_bytes(b))).collect(),
            _ => words::<2>(&case.values)
                .into_iter()
                .map(|b| f64::from(F16::from_bits(u16::from_le_bytes(b)).to_f32()))
                .collect(),
        };
        // The rule takes sizes in the order x, y, z.
        let reversed = |[z, y, x]: [f64; 3]| [x, y, z];
        let separate = rule.separate_axis(reversed(case.from_mm), reversed(case.to_mm)).map(|axis| 2 - axis);
        let found = resample_channel(&rule, values, from, to, separate).unwrap();
        let different = match case.found_dtype.as_str() {
            "f4" => {
                let expected = words::<4>(&case.found).into_iter().map(f32::from_le_bytes);
                found.iter().zip(expected).filter(|(found, expected)| **found as f32 != *expected).count()
            }
            _ => {
                let expected = words::<2>(&case.found).into_iter().map(u16::from_le_bytes);
                found
                    .iter()
                    .zip(expected)
                    .filter(|(v, expected)| F16::from_f64(**v).to_bits() != *expected)
                    .count()
            }
        };
        assert_eq!(found.len(), to.iter().product::<usize>());
        assert_eq!(different, 0, "{rule:?} from {from:?} to {to:?}, separate {separate:?}");
    }
}

#[test]
fn resampling_of_masks_equals_nnunets() {
    for Mask { rule, from, to, from_mm, to_mm, values, found } in functions().masks {
        let labels = |digits: &str| digits.bytes().map(|digit| i32::from(digit - b'0') - 1).collect::<Vec<_>>();
        let reversed = |[z, y, x]: [f64; 3]| [x, y, z];
        let separate = rule.separate_axis(reversed(from_mm), reversed(to_mm)).map(|axis| 2 - axis);
        let resampled = resample_mask(&rule, &labels(&values), from, to, separate).unwrap();
        let different = resampled.iter().zip(labels(&found)).filter(|(a, b)| *a != b).count();
        assert_eq!(resampled.len(), found.len());
        assert_eq!(different, 0, "{rule:?} from {from:?} to {to:?}, separate {separate:?}");
    }
}

#[test]
fn normalisation_equals_nnunets_with_numpys_sums() {
    for case in functions().normalisation {
        let Normalising { scheme, full, part, transpose, shape, .. } = case;
        let scan = |z: usize, y: usize, x: usize| {
            let index = (z * full[1] + y) * full[2] + x;
            let value = (index * 7919 % 1009) / 4 + 20 * ((z / 2 + y / 3 + x / 3) % 7) + 1;
            (value % 256) as f32
        };
        let [z, y, x] = part.map(|[start, end]| start..end);
        let at: Vec<[usize; 3]> = z
            .clone()
            .flat_map(|z| {
                y.clone().flat_map({
                    let x = x.clone();
                    move |y| x.clone().map(move |x| [z, y, x])
                })
            })
            .collect();
        let lengths = part.map(|[start, end]| end - start);
        // The offset in the part of each voxel of the transposed array.
        let mut order = Vec::new();
        for a in 0..shape[0] {
            for b in 0..shape[1] {
                for c in 0..shape[2] {
                    let mut stored = [0; 3];
                    [a, b, c].into_iter().zip(transpose).for_each(|(index, axis)| stored[axis] = index);
                    order.push((stored[0] * lengths[1] + stored[1]) * lengths[2] + stored[2]);
                }
            }
        }
        let is_masked = scheme == Normalisation::ZScoreNonzero;
        let inside: Vec<bool> = (0..order.len()).map(|i| i % 7 != 3).collect();
        let mut values: Vec<f32> = order.iter().map(|offset| at[*offset]).map(|[z, y, x]| scan(z, y, x)).collect();
        if is_masked {
            values.iter_mut().zip(&inside).filter(|(_, inside)| !**inside).for_each(|(v, _)| *v = 0.0);
        }
        let mut stored = vec![0.0; values.len()];
        order.iter().zip(&values).for_each(|(offset, v)| stored[*offset] = *v);
        let channel = Channel { stored: &stored, shape: lengths, full };
        normalize(scheme, &channel, &mut values, &inside);
        let first: Vec<f32> = words::<4>(&case.first).into_iter().map(f32::from_le_bytes).collect();
        assert_eq!(values[..8], first, "{scheme:?} of {part:?} of {full:?} in the order {transpose:?}");
        assert_eq!(
            checksum(values.iter().map(|v| u64::from(v.to_bits()))),
            case.checksum,
            "{scheme:?} of {part:?}"
        );
    }
}

#[test]
fn gaussian_equals_nnunets() {
    for case in functions().gaussian {
        let missing = 3 - case.tile.len();
        let tile: [usize; 3] =
            std::array::from_fn(|axis| if axis < missing { 1 } else { case.tile[axis - missing] });
        let weights = gaussian(tile, missing).unwrap();
        let [_, ny, nx] = tile;
        let centre = ((tile[0] / 2) * ny + ny / 2) * nx + nx / 2;
        assert_eq!(weights[centre].to_f32(), case.centre);
        assert_eq!(checksum(weights.iter().map(|w| u64::from(w.to_bits()))), case.checksum, "{tile:?}");
    }
}

#[test]
fn tile_starts_equal_nnunets_for_more_sizes() {
    for Steps { image, tile, step, starts } in functions().steps {
        assert_eq!(tile_starts(image, tile, step), starts, "{image} {tile} {step}");
    }
}
