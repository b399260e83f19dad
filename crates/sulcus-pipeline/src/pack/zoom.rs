//! `scipy.ndimage.zoom(…, mode="nearest", grid_mode=False)` in SciPy's order of operations, so that results are equal to the bit: the
//! first and last voxels of each axis keep their centres. Axes are x, y, z, of which SciPy takes x first.

/// The two samples of an axis between which a value lies, and their weights.
#[derive(Debug, Clone, Copy)]
struct Pair {
    sources: [usize; 2],
    weights: [f64; 2],
}

/// The step on an axis of `from` voxels between neighbouring voxels of an axis of `to` voxels.
fn step(from: usize, to: usize) -> f64 {
    if to < 2 { 1.0 } else { (from as f64 - 1.0) / (to as f64 - 1.0) }
}

fn positions(from: usize, to: usize) -> impl Iterator<Item = f64> {
    let (step, last) = (step(from, to), from as f64 - 1.0);
    (0..to).map(move |i| (step * i as f64).clamp(0.0, last))
}

fn pairs(from: usize, to: usize) -> Vec<Pair> {
    let pair = |at: f64| {
        let first = at.floor();
        let weight = 1.0 - (at - first);
        let first = first as usize;
        Pair { sources: [first, (first + 1).min(from.saturating_sub(1))], weights: [weight, 1.0 - weight] }
    };
    positions(from, to).map(pair).collect()
}

/// Linear interpolation in double precision. `finish` makes the value that is stored.
///
/// # Shapes
/// `values` has the shape `from`, x fastest; the result the shape `to`.
pub(super) fn linear(
    values: &[f32],
    from: [usize; 3],
    to: [usize; 3],
    mut out: Vec<f32>,
    finish: impl Fn(f64) -> f32,
) -> Vec<f32> {
    let [xs, ys, zs] = std::array::from_fn(|axis| pairs(from[axis], to[axis]));
    let [nx, ny, _] = from;
    // The source row of each y and z; x is innermost in memory, and outermost in SciPy's sum.
    let rows = |y: &Pair, z: &Pair| {
        [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[ky, kz]| {
            let start = (z.sources[kz] * ny + y.sources[ky]) * nx;
            (values.get(start..start + nx).unwrap_or_default(), y.weights[ky], z.weights[kz])
        })
    };
    for z in &zs {
        for y in &ys {
            let rows = rows(y, z);
            out.extend(xs.iter().map(|x| {
                let mut sum = 0.0;
                for (source, weight) in x.sources.into_iter().zip(x.weights) {
                    for (row, of_y, of_z) in rows {
                        let value = row.get(source).copied().unwrap_or_default();
                        sum += f64::from(value) * weight * of_y * of_z;
                    }
                }
                finish(sum)
            }));
        }
    }
    out
}

/// The nearest voxel of each voxel along one axis.
pub(super) fn nearest(from: usize, to: usize) -> Vec<usize> {
    positions(from, to).map(|at| (at + 0.5).floor() as usize).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// From SciPy 1.17: `zoom(a, (1.6, 1.4, 1.3), order=1, mode="nearest")`, some of its values in the order of memory with x fastest, and
    /// `zoom(numpy.arange(n), m / n, order=0, mode="nearest")`.
    #[test]
    fn values_are_scipys() {
        let mut values = Vec::new();
        for (z, y, x) in (0..4).flat_map(|z| (0..3).flat_map(move |y| (0..2).map(move |x| (z, y, x)))) {
            values.push(f64::from(x * 12 + y * 4 + z).powf(1.5) as f32);
        }
        let found = RefCell::new(Vec::new());
        let finish = |value: f64| {
            found.borrow_mut().push(value);
            value as f32
        };
        let out = linear(&values, [2, 3, 4], [3, 4, 5], Vec::new(), finish);
        let found = found.into_inner();
        assert_eq!((out.len(), found.len()), (60, 60));
        let expected = [
            (7, 42.678355852762856),
            (22, 60.22155165672302),
            (31, 50.2267689704895),
            (46, 68.90284585952759),
            (58, 73.39349746704102),
        ];
        for (at, value) in expected {
            assert_eq!(found[at].to_bits(), f64::to_bits(value), "{at}: {} is not {value}", found[at]);
        }
        assert_eq!(nearest(4, 9), [0, 0, 1, 1, 2, 2, 2, 3, 3]);
        assert_eq!(nearest(10, 23), [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 7, 7, 7, 8, 8, 9, 9]);
        assert_eq!((nearest(5, 2), nearest(7, 4)), (vec![0, 4], vec![0, 2, 4, 6]));
        assert_eq!((nearest(3, 1), nearest(1, 3)), (vec![0], vec![0; 3]));
    }
}
