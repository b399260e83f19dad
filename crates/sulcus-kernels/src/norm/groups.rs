//! The forward and backward pass of the groups: vectorised loops over the channels.

use super::{BLOCK_VALUES, SUM_REGISTERS};
use crate::simd::{Kernel, Simd, dispatch, sum_registers};

/// The parameters of one group: the input of the activation is u = (x − mean) · scale + offset.
#[derive(Clone, Copy)]
pub(super) struct GroupParams {
    pub(super) mean: f32,
    pub(super) inv_sd: f32,
    /// γ / sd.
    pub(super) scale: f32,
    /// β.
    pub(super) offset: f32,
    /// The slope of the activation for negative inputs.
    pub(super) slope: f32,
}

/// The channels of one group in the forward pass. Without a residual, `residual` is empty.
pub(super) struct ForwardGroup<'a> {
    pub(super) x: Vec<&'a [f32]>,
    pub(super) residual: Vec<&'a [f32]>,
    pub(super) y: Vec<&'a mut [f32]>,
}

impl ForwardGroup<'_> {
    pub(super) fn apply(self, params: GroupParams) {
        let mut residual = self.residual.into_iter();
        for (x, y) in self.x.into_iter().zip(self.y) {
            dispatch(Forward { params, x, residual: residual.next(), y });
        }
    }
}

/// The channels of one group in the backward pass.
pub(super) struct BackwardGroup<'a> {
    pub(super) x: Vec<&'a [f32]>,
    pub(super) dy: Vec<&'a [f32]>,
    pub(super) dx: Vec<&'a mut [f32]>,
    pub(super) residual: Vec<&'a [f32]>,
    pub(super) dr: Vec<&'a mut [f32]>,
}

impl BackwardGroup<'_> {
    /// Computes `dx` and `dr`; returns Σ g and Σ g x̂, where g is the gradient at the input of the activation.
    pub(super) fn apply(self, params: GroupParams) -> [f64; 2] {
        let mut sums = [0.0; 2];
        let mut count = 0;
        for (plane, (x, dy)) in self.x.iter().zip(&self.dy).enumerate() {
            let found = dispatch(GradientSums { params, x, dy, residual: self.residual.get(plane).copied() });
            sums = [sums[0] + found[0], sums[1] + found[1]];
            count += x.len();
        }
        let means = sums.map(|sum| (sum / count as f64) as f32);
        let (mut residual, mut dr) = (self.residual.into_iter(), self.dr.into_iter());
        for ((x, dy), dx) in self.x.into_iter().zip(self.dy).zip(self.dx) {
            dispatch(Backward { params, means, x, dy, residual: residual.next(), dx, dr: dr.next() });
        }
        sums
    }
}

/// The parameters of a group in registers.
#[derive(Clone, Copy)]
struct GroupRegisters<S: Simd> {
    simd: S,
    mean: S::Vector,
    scale: S::Vector,
    offset: S::Vector,
    slope: S::Vector,
}

impl<S: Simd> GroupRegisters<S> {
    #[inline(always)]
    fn new(simd: S, params: GroupParams) -> Self {
        Self {
            simd,
            mean: simd.splat(params.mean),
            scale: simd.splat(params.scale),
            offset: simd.splat(params.offset),
            slope: simd.splat(params.slope),
        }
    }

    /// The input of the activation without the residual. The backward pass recomputes it with this function, so that both passes
    /// see the same sign.
    #[inline(always)]
    fn normalize(self, x: S::Vector) -> S::Vector {
        self.simd.fma(self.simd.sub(x, self.mean), self.scale, self.offset)
    }

    #[inline(always)]
    fn activate(self, u: S::Vector) -> S::Vector {
        self.simd.select_positive(u, u, self.simd.mul(u, self.slope))
    }

    /// The gradient at the input of the activation.
    #[inline(always)]
    fn activation_gradient(self, u: S::Vector, dy: S::Vector) -> S::Vector {
        self.simd.select_positive(u, dy, self.simd.mul(dy, self.slope))
    }
}

/// The forward pass of one channel.
struct Forward<'a> {
    params: GroupParams,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let group = GroupRegisters::new(simd, self.params);
        let (xs, x_rest) = simd.chunks(self.x);
        let (ys, y_rest) = simd.chunks_mut(self.y);
        match self.residual {
            None => {
                for (x, y) in xs.iter().zip(ys) {
                    simd.store(group.activate(group.normalize(simd.load(x))), y);
                }
                simd.store_partial(group.activate(group.normalize(simd.load_partial(x_rest, 0.0))), y_rest);
            }
            Some(residual) => {
                let (rs, r_rest) = simd.chunks(residual);
                for ((x, r), y) in xs.iter().zip(rs).zip(ys) {
                    simd.store(group.activate(simd.add(group.normalize(simd.load(x)), simd.load(r))), y);
                }
                let u = simd.add(group.normalize(simd.load_partial(x_rest, 0.0)), simd.load_partial(r_rest, 0.0));
                simd.store_partial(group.activate(u), y_rest);
            }
        }
    }
}

/// Σ g and Σ g x̂ of one channel.
struct GradientSums<'a> {
    params: GroupParams,
    x: &'a [f32],
    dy: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl Kernel for GradientSums<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [f64; 2] {
        let group = GroupRegisters::new(simd, self.params);
        let mut all = [0.0; 2];
        let residual = self.residual.unwrap_or(&[]);
        for (block, (x, dy)) in self.x.chunks(BLOCK_VALUES).zip(self.dy.chunks(BLOCK_VALUES)).enumerate() {
            let mut sums = [[simd.splat(0.0); SUM_REGISTERS]; 2];
            let add = |x: S::Vector,
                       dy: S::Vector,
                       r: S::Vector,
                       sums: &mut [[S::Vector; SUM_REGISTERS]; 2],
                       i: usize| {
                let g = group.activation_gradient(simd.add(group.normalize(x), r), dy);
                sums[0][i] = simd.add(sums[0][i], g);
                sums[1][i] = simd.fma(g, simd.sub(x, group.mean), sums[1][i]);
            };
            let (xs, x_rest) = simd.chunks(x);
            let (dys, dy_rest) = simd.chunks(dy);
            let none = simd.splat(0.0);
            let (mut x4, mut dy4) = (xs.chunks_exact(SUM_REGISTERS), dys.chunks_exact(SUM_REGISTERS));
            let r_rest = match self.residual {
                None => {
                    for (x, dy) in (&mut x4).zip(&mut dy4) {
                        for i in 0..SUM_REGISTERS {
                            add(simd.load(&x[i]), simd.load(&dy[i]), none, &mut sums, i);
                        }
                    }
                    for (x, dy) in x4.remainder().iter().zip(dy4.remainder()) {
                        add(simd.load(x), simd.load(dy), none, &mut sums, 0);
                    }
                    none
                }
                Some(_) => {
                    let (rs, r_rest) = simd.chunks(residual.chunks(BLOCK_VALUES).nth(block).unwrap_or(&[]));
                    let mut r4 = rs.chunks_exact(SUM_REGISTERS);
                    for ((x, dy), r) in (&mut x4).zip(&mut dy4).zip(&mut r4) {
                        for i in 0..SUM_REGISTERS {
                            add(simd.load(&x[i]), simd.load(&dy[i]), simd.load(&r[i]), &mut sums, i);
                        }
                    }
                    for ((x, dy), r) in x4.remainder().iter().zip(dy4.remainder()).zip(r4.remainder()) {
                        add(simd.load(x), simd.load(dy), simd.load(r), &mut sums, 0);
                    }
                    simd.load_partial(r_rest, 0.0)
                }
            };
            // The gradient of the lanes beyond the end is 0, so they add nothing.
            add(simd.load_partial(x_rest, 0.0), simd.load_partial(dy_rest, 0.0), r_rest, &mut sums, 1);
            all = [all[0] + sum_registers(simd, sums[0]), all[1] + sum_registers(simd, sums[1])];
        }
        [all[0], all[1] * f64::from(self.params.inv_sd)]
    }
}

/// The backward pass of one channel: dx = γ / sd · (g − mean(g) − x̂ · mean(g x̂)), dr = g.
struct Backward<'a> {
    params: GroupParams,
    means: [f32; 2],
    x: &'a [f32],
    dy: &'a [f32],
    residual: Option<&'a [f32]>,
    dx: &'a mut [f32],
    dr: Option<&'a mut [f32]>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let group = GroupRegisters::new(simd, self.params);
        let mean_g = simd.splat(self.means[0]);
        let x_hat_factor = simd.splat(-self.means[1] * self.params.inv_sd);
        let gradient = |x: S::Vector, g: S::Vector| {
            let centred = simd.fma(simd.sub(x, group.mean), x_hat_factor, simd.sub(g, mean_g));
            simd.mul(centred, group.scale)
        };
        let (xs, x_rest) = simd.chunks(self.x);
        let (dys, dy_rest) = simd.chunks(self.dy);
        let (dxs, dx_rest) = simd.chunks_mut(self.dx);
        let (x_last, dy_last) = (simd.load_partial(x_rest, 0.0), simd.load_partial(dy_rest, 0.0));
        match (self.residual, self.dr) {
            (Some(residual), Some(dr)) => {
                let (rs, r_rest) = simd.chunks(residual);
                let (drs, dr_rest) = simd.chunks_mut(dr);
                for ((((x, dy), r), dx), dr) in xs.iter().zip(dys).zip(rs).zip(dxs).zip(drs) {
                    let x = simd.load(x);
                    let g = group.activation_gradient(simd.add(group.normalize(x), simd.load(r)), simd.load(dy));
                    simd.store(gradient(x, g), dx);
                    simd.store(g, dr);
                }
                let g = group.activation_gradient(
                    simd.add(group.normalize(x_last), simd.load_partial(r_rest, 0.0)),
                    dy_last,
                );
                simd.store_partial(gradient(x_last, g), dx_rest);
                simd.store_partial(g, dr_rest);
            }
            _ => {
                for ((x, dy), dx) in xs.iter().zip(dys).zip(dxs) {
                    let x = simd.load(x);
                    simd.store(gradient(x, group.activation_gradient(group.normalize(x), simd.load(dy))), dx);
                }
                simd.store_partial(
                    gradient(x_last, group.activation_gradient(group.normalize(x_last), dy_last)),
                    dx_rest,
                );
            }
        }
    }
}
