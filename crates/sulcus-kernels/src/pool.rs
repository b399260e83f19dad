//! Max pooling whose windows lie side by side.

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};

/// Max pooling with a window as large as its step. What a window would lack at the end of an axis is left out, as PyTorch
/// does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    planes: usize,
    input: [usize; 3],
    window: [usize; 3],
}

impl MaxPool {
    /// Pooling of `planes` (batch · channels) grids of `input` voxels (depth, height, width) over `window`s of 1 or 2 voxels
    /// along each axis.
    ///
    /// # Errors
    /// Another window, an axis shorter than the window, or nothing to pool.
    pub fn new(planes: usize, input: [usize; 3], window: [usize; 3]) -> Result<Self, KernelError> {
        if window.iter().any(|edge| !(1..=2).contains(edge)) {
            return Err(KernelError::Shape(format!("max pooling over {window:?}: each edge has to be 1 or 2")));
        }
        if planes == 0 || input.iter().zip(window).any(|(&edge, window)| edge < window) {
            return Err(KernelError::Shape(format!("max pooling of {planes} grids of {input:?} over {window:?}")));
        }
        product("max pooling", &[planes, input[0], input[1], input[2]])?;
        Ok(Self { planes, input, window })
    }

    /// Depth, height and width of what comes out.
    pub fn output(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.input[axis] / self.window[axis])
    }

    /// The maxima, and where in its window each lies: voxel `(a · kh + b) · kw + c` of the window's depth, height, width. The
    /// first of equals; NaN is above all.
    ///
    /// # Shapes
    /// `x` `[planes, depth, height, width]`; `y`, `place` `[planes, output]`.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    pub fn forward(&self, x: &[f32], y: &mut [f32], place: &mut [u8]) -> Result<(), KernelError> {
        let (from, to) = self.check("x", x.len(), "y", y.len(), place.len())?;
        let planes = x.par_chunks_exact(from).zip(y.par_chunks_exact_mut(to)).zip(place.par_chunks_exact_mut(to));
        planes.for_each(|((x, y), place)| self.forward_plane(x, y, place));
        Ok(())
    }

    fn forward_plane(&self, x: &[f32], y: &mut [f32], place: &mut [u8]) {
        let [_, height, width] = self.output();
        let [kd, kh, kw] = self.window;
        for (row, (y, place)) in y.chunks_exact_mut(width).zip(place.chunks_exact_mut(width)).enumerate() {
            let (d, h) = (row / height, row % height);
            y.fill(f32::NEG_INFINITY);
            place.fill(0);
            for a in 0..kd {
                for b in 0..kh {
                    let start = ((d * kd + a) * self.input[1] + h * kh + b) * self.input[2];
                    let x = &x[start..start + width * kw];
                    let first = ((a * kh + b) * kw) as u8;
                    if kw == 2 {
                        let (pairs, _) = x.as_chunks::<2>();
                        for ((x, y), place) in pairs.iter().zip(&mut *y).zip(&mut *place) {
                            take(x[0], first, y, place);
                            take(x[1], first + 1, y, place);
                        }
                    } else {
                        for ((&x, y), place) in x.iter().zip(&mut *y).zip(&mut *place) {
                            take(x, first, y, place);
                        }
                    }
                }
            }
        }
    }

    /// The gradient: each window's goes to where its maximum lay, 0 elsewhere.
    ///
    /// # Shapes
    /// `dy`, `place` `[planes, output]`; `dx` `[planes, depth, height, width]`, overwritten.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    pub fn backward(&self, dy: &[f32], place: &[u8], dx: &mut [f32]) -> Result<(), KernelError> {
        let (from, to) = self.check("dx", dx.len(), "dy", dy.len(), place.len())?;
        let planes = dx.par_chunks_exact_mut(from).zip(dy.par_chunks_exact(to)).zip(place.par_chunks_exact(to));
        planes.for_each(|((dx, dy), place)| self.backward_plane(dy, place, dx));
        Ok(())
    }

    fn backward_plane(&self, dy: &[f32], place: &[u8], dx: &mut [f32]) {
        let [depth, height, width] = self.output();
        let [kd, kh, kw] = self.window;
        for (row, dx) in dx.chunks_exact_mut(self.input[2]).enumerate() {
            let (d, h) = (row / self.input[1], row % self.input[1]);
            if d / kd >= depth || h / kh >= height {
                dx.fill(0.0);
                continue;
            }
            let start = (d / kd * height + h / kh) * width;
            let (dy, place) = (&dy[start..start + width], &place[start..start + width]);
            let first = (((d % kd) * kh + h % kh) * kw) as u8;
            let (dx, beyond) = dx.split_at_mut(width * kw);
            beyond.fill(0.0);
            if kw == 2 {
                let (pairs, _) = dx.as_chunks_mut::<2>();
                for ((dx, &dy), &place) in pairs.iter_mut().zip(dy).zip(place) {
                    dx[0] = if place == first { dy } else { 0.0 };
                    dx[1] = if place == first + 1 { dy } else { 0.0 };
                }
            } else {
                for ((dx, &dy), &place) in dx.iter_mut().zip(dy).zip(place) {
                    *dx = if place == first { dy } else { 0.0 };
                }
            }
        }
    }

    fn check(
        &self,
        input: &'static str,
        found_in: usize,
        output: &'static str,
        found_out: usize,
        places: usize,
    ) -> Result<(usize, usize), KernelError> {
        let (from, to) = (self.input.iter().product::<usize>(), self.output().iter().product::<usize>());
        check_length(input, found_in, self.planes * from)?;
        check_length(output, found_out, self.planes * to)?;
        check_length("place", places, self.planes * to)?;
        Ok((from, to))
    }
}

#[inline(always)]
fn take(x: f32, at: u8, best: &mut f32, place: &mut u8) {
    let above = x > *best || x.is_nan();
    *best = if above { x } else { *best };
    *place = if above { at } else { *place };
}
