//! Max pooling with a stride equal to the window.

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};

/// Max pooling with a stride equal to the window. An incomplete window at the end of an axis is dropped, as in PyTorch.
///
/// ```
/// use sulcus_kernels::MaxPool;
///
/// // One plane of 2 × 4 pixels, a window of 2 × 2.
/// let pool = MaxPool::new(1, [1, 2, 4], [1, 2, 2])?;
/// let (mut y, mut argmax) = ([0.0; 2], [0; 2]);
/// pool.forward(&[1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 7.0, 6.0], &mut y, &mut argmax)?;
/// assert_eq!((y, argmax), ([5.0, 7.0], [1, 2]));
/// # Ok::<(), sulcus_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    planes: usize,
    input: [usize; 3],
    window: [usize; 3],
}

impl MaxPool {
    /// Pooling of `planes` (batch · channels) grids of `input` voxels (depth, height, width) with a `window` of 1 or 2 voxels
    /// along each axis.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for another window, an axis shorter than the window, or an empty input.
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

    /// Depth, height and width of the output.
    pub fn output(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.input[axis] / self.window[axis])
    }

    /// Computes the maxima and the position of each in its window, `(a · kh + b) · kw + c` for the offset (a, b, c) along
    /// depth, height and width. Among equal values the first is taken. NaN is larger than any number.
    ///
    /// # Shapes
    /// - `x`: `[planes, depth, height, width]`
    /// - `y`, `argmax`: `[planes, depth / kd, height / kh, width / kw]`, rounded down, overwritten
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    pub fn forward(&self, x: &[f32], y: &mut [f32], argmax: &mut [u8]) -> Result<(), KernelError> {
        let (from, to) = self.check("x", x.len(), "y", y.len(), argmax.len())?;
        let planes = x.par_chunks_exact(from).zip(y.par_chunks_exact_mut(to)).zip(argmax.par_chunks_exact_mut(to));
        planes.for_each(|((x, y), argmax)| self.forward_plane(x, y, argmax));
        Ok(())
    }

    fn forward_plane(&self, x: &[f32], y: &mut [f32], argmax: &mut [u8]) {
        let [_, height, width] = self.output();
        let [kd, kh, kw] = self.window;
        for (row, (y, argmax)) in y.chunks_exact_mut(width).zip(argmax.chunks_exact_mut(width)).enumerate() {
            let (d, h) = (row / height, row % height);
            y.fill(f32::NEG_INFINITY);
            argmax.fill(0);
            for a in 0..kd {
                for b in 0..kh {
                    let start = ((d * kd + a) * self.input[1] + h * kh + b) * self.input[2];
                    let x = &x[start..start + width * kw];
                    let first = ((a * kh + b) * kw) as u8;
                    if kw == 2 {
                        let (pairs, _) = x.as_chunks::<2>();
                        for ((x, y), argmax) in pairs.iter().zip(&mut *y).zip(&mut *argmax) {
                            update_max(x[0], first, y, argmax);
                            update_max(x[1], first + 1, y, argmax);
                        }
                    } else {
                        for ((&x, y), argmax) in x.iter().zip(&mut *y).zip(&mut *argmax) {
                            update_max(x, first, y, argmax);
                        }
                    }
                }
            }
        }
    }

    /// Computes the gradient with respect to the input: `dy` at the position of each maximum, 0 elsewhere.
    ///
    /// # Shapes
    /// - `dy`, `argmax`: `[planes, depth / kd, height / kh, width / kw]`, rounded down
    /// - `dx`: `[planes, depth, height, width]`, overwritten
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    pub fn backward(&self, dy: &[f32], argmax: &[u8], dx: &mut [f32]) -> Result<(), KernelError> {
        let (from, to) = self.check("dx", dx.len(), "dy", dy.len(), argmax.len())?;
        let planes = dx.par_chunks_exact_mut(from).zip(dy.par_chunks_exact(to)).zip(argmax.par_chunks_exact(to));
        planes.for_each(|((dx, dy), argmax)| self.backward_plane(dy, argmax, dx));
        Ok(())
    }

    fn backward_plane(&self, dy: &[f32], argmax: &[u8], dx: &mut [f32]) {
        let [depth, height, width] = self.output();
        let [kd, kh, kw] = self.window;
        for (row, dx) in dx.chunks_exact_mut(self.input[2]).enumerate() {
            let (d, h) = (row / self.input[1], row % self.input[1]);
            if d / kd >= depth || h / kh >= height {
                dx.fill(0.0);
                continue;
            }
            let start = (d / kd * height + h / kh) * width;
            let (dy, argmax) = (&dy[start..start + width], &argmax[start..start + width]);
            let first = (((d % kd) * kh + h % kh) * kw) as u8;
            let (dx, beyond) = dx.split_at_mut(width * kw);
            beyond.fill(0.0);
            if kw == 2 {
                let (pairs, _) = dx.as_chunks_mut::<2>();
                for ((dx, &dy), &argmax) in pairs.iter_mut().zip(dy).zip(argmax) {
                    dx[0] = if argmax == first { dy } else { 0.0 };
                    dx[1] = if argmax == first + 1 { dy } else { 0.0 };
                }
            } else {
                for ((dx, &dy), &argmax) in dx.iter_mut().zip(dy).zip(argmax) {
                    *dx = if argmax == first { dy } else { 0.0 };
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
        argmaxes: usize,
    ) -> Result<(usize, usize), KernelError> {
        let (from, to) = (self.input.iter().product::<usize>(), self.output().iter().product::<usize>());
        check_length(input, found_in, self.planes * from)?;
        check_length(output, found_out, self.planes * to)?;
        check_length("argmax", argmaxes, self.planes * to)?;
        Ok((from, to))
    }
}

#[inline(always)]
fn update_max(x: f32, at: u8, max: &mut f32, argmax: &mut u8) {
    let is_larger = x > *max || x.is_nan();
    *max = if is_larger { x } else { *max };
    *argmax = if is_larger { at } else { *argmax };
}
