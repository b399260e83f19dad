//! Normalisation, the affine map, an optional sum with a residual and (leaky) ReLU, in one.
//!
//! Instance normalisation (Ulyanov et al. 2016) takes mean and variance over one channel of one case, batch normalisation
//! (Ioffe and Szegedy 2015) over one channel of the batch. A group is what shares them. With x̂ = (x − mean) / sd the layer is
//! y = act(γ x̂ + β + r), act(u) = u where u > 0 and slope · u elsewhere.

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::vector::{Kernel, Simd, sum, total, vectorised};

/// Values that are summed in single precision before a double takes the sum on; 16 KiB, so that a second look is free.
const BLOCK: usize = 4096;
/// Registers that a sum is spread over, so that no addition waits for the last.
const SUMS: usize = 4;

/// What shares a mean and a variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormScope {
    /// One channel of one case: batch · channels groups, case by case.
    Instance,
    /// One channel of all cases: as many groups as channels.
    Batch,
}

/// `[batch, channels, voxels]`, and what is normalised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormShape {
    /// Cases.
    pub batch: usize,
    /// Channels of a case.
    pub channels: usize,
    /// Voxels of a channel.
    pub voxels: usize,
    /// What shares a mean and a variance.
    pub scope: NormScope,
}

impl NormShape {
    /// Means and variances that [`Norm::forward_train`] finds.
    pub fn groups(&self) -> usize {
        match self.scope {
            NormScope::Instance => self.batch * self.channels,
            NormScope::Batch => self.channels,
        }
    }

    fn group_of(&self, plane: usize) -> usize {
        match self.scope {
            NormScope::Instance => plane,
            NormScope::Batch => plane % self.channels,
        }
    }

    /// The planes of each group.
    fn split<'a>(&self, values: &'a [f32]) -> Vec<Vec<&'a [f32]>> {
        let mut groups = vec![Vec::new(); self.groups()];
        for (plane, values) in values.chunks_exact(self.voxels).enumerate() {
            groups[self.group_of(plane)].push(values);
        }
        groups
    }

    fn split_mut<'a>(&self, values: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
        let mut groups: Vec<Vec<&mut [f32]>> = (0..self.groups()).map(|_| Vec::new()).collect();
        for (plane, values) in values.chunks_exact_mut(self.voxels).enumerate() {
            groups[self.group_of(plane)].push(values);
        }
        groups
    }
}

/// What [`Norm::forward_train`] found in each group and [`Norm::backward`] needs again.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f32>,
    /// Mean squared deviations (divided by the count, not by the count − 1).
    pub variance: Vec<f32>,
    /// 1 / √(variance + ε).
    pub inv_sd: Vec<f32>,
}

/// The residual that was added before the activation, and where its gradient goes.
#[derive(Debug)]
pub struct ResidualGradient<'a> {
    /// The residual of the forward pass: `[batch, channels, voxels]`.
    pub residual: &'a [f32],
    /// Its gradient, overwritten: `[batch, channels, voxels]`.
    pub gradient: &'a mut [f32],
}

/// A normalisation with its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    shape: NormShape,
    gamma: &'a [f32],
    beta: &'a [f32],
    slope: f32,
}

impl<'a> Norm<'a> {
    /// A normalisation with a scale γ and an offset β per channel. `slope` of the activation below 0: 0 is ReLU, 0.01
    /// nnU-Net's leaky ReLU, 1 no activation.
    ///
    /// # Errors
    /// An empty shape, or parameters of another length than the channels.
    pub fn new(shape: NormShape, gamma: &'a [f32], beta: &'a [f32], slope: f32) -> Result<Self, KernelError> {
        if product("normalisation", &[shape.batch, shape.channels, shape.voxels])? == 0 {
            return Err(KernelError::Shape(format!("normalisation of an empty tensor, {shape:?}")));
        }
        check_length("gamma", gamma.len(), shape.channels)?;
        check_length("beta", beta.len(), shape.channels)?;
        Ok(Self { shape, gamma, beta, slope })
    }

    fn len(&self) -> usize {
        self.shape.batch * self.shape.channels * self.shape.voxels
    }

    fn point(&self, group: usize, mean: f32, inv_sd: f32) -> Point {
        let channel = group % self.shape.channels;
        let scale = self.gamma[channel] * inv_sd;
        Point { mean, inv_sd, scale, offset: self.beta[channel], slope: self.slope }
    }

    /// Normalises by what it finds in `x` itself.
    ///
    /// # Shapes
    /// `x`, `residual`, `y` `[batch, channels, voxels]`; the moments hold one value per group.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    pub fn forward_train(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        epsilon: f32,
        y: &mut [f32],
    ) -> Result<Moments, KernelError> {
        self.check(x, residual, y)?;
        let found: Vec<[f32; 3]> = self
            .parts(x, residual, y)
            .into_par_iter()
            .enumerate()
            .map(|(group, part)| {
                let mut all = Spread::default();
                for plane in &part.x {
                    for block in plane.chunks(BLOCK) {
                        all = all.and(vectorised(Measure(block)));
                    }
                }
                let variance = all.squares / all.count;
                let inv_sd = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
                let mean = all.mean as f32;
                part.apply(self.point(group, mean, inv_sd));
                [mean, variance as f32, inv_sd]
            })
            .collect();
        let column = |i: usize| found.iter().map(|moments| moments[i]).collect();
        Ok(Moments { mean: column(0), variance: column(1), inv_sd: column(2) })
    }

    /// Normalises by means and standard deviations that are known: batch normalisation in use.
    ///
    /// # Shapes
    /// `x`, `residual`, `y` `[batch, channels, voxels]`; `mean`, `inv_sd` `[channels]`.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    pub fn forward_fixed(
        &self,
        x: &[f32],
        mean: &[f32],
        inv_sd: &[f32],
        residual: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        self.check(x, residual, y)?;
        check_length("mean", mean.len(), self.shape.channels)?;
        check_length("inv_sd", inv_sd.len(), self.shape.channels)?;
        self.parts(x, residual, y).into_par_iter().enumerate().for_each(|(group, part)| {
            let channel = group % self.shape.channels;
            part.apply(self.point(group, mean[channel], inv_sd[channel]));
        });
        Ok(())
    }

    /// The gradients of [`Norm::forward_train`]. Where the activation bends is found again from `x`, so that nothing but
    /// `x` and the moments need be kept.
    ///
    /// # Shapes
    /// `x`, `dy`, `dx` and the residual's `[batch, channels, voxels]`; `dgamma`, `dbeta` `[channels]`. All outputs are
    /// overwritten.
    ///
    /// # Errors
    /// A slice of another length than the shape's.
    #[expect(clippy::too_many_arguments, reason = "three inputs and four outputs, each a tensor of its own")]
    pub fn backward(
        &self,
        x: &[f32],
        moments: &Moments,
        dy: &[f32],
        residual: Option<ResidualGradient<'_>>,
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) -> Result<(), KernelError> {
        let shape = &self.shape;
        check_length("x", x.len(), self.len())?;
        check_length("dy", dy.len(), self.len())?;
        check_length("dx", dx.len(), self.len())?;
        check_length("mean", moments.mean.len(), shape.groups())?;
        check_length("inv_sd", moments.inv_sd.len(), shape.groups())?;
        check_length("dgamma", dgamma.len(), shape.channels)?;
        check_length("dbeta", dbeta.len(), shape.channels)?;
        let (residual, dr) = match residual {
            None => (None, None),
            Some(ResidualGradient { residual, gradient }) => {
                check_length("residual", residual.len(), self.len())?;
                check_length("the residual's gradient", gradient.len(), self.len())?;
                (Some(residual), Some(gradient))
            }
        };
        let groups = shape.groups();
        let residual = residual.map_or_else(|| vec![Vec::new(); groups], |r| shape.split(r));
        let dr = dr.map_or_else(|| (0..groups).map(|_| Vec::new()).collect(), |dr| shape.split_mut(dr));
        let parts: Vec<_> = shape
            .split(x)
            .into_iter()
            .zip(shape.split(dy))
            .zip(shape.split_mut(dx))
            .zip(residual.into_iter().zip(dr))
            .map(|(((x, dy), dx), (residual, dr))| BackwardPart { x, dy, dx, residual, dr })
            .collect();
        let sums: Vec<[f64; 2]> = parts
            .into_par_iter()
            .enumerate()
            .map(|(group, part)| part.apply(self.point(group, moments.mean[group], moments.inv_sd[group])))
            .collect();
        for (channel, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
            let of_channel = || sums.iter().skip(channel).step_by(shape.channels);
            *dbeta = of_channel().map(|sum| sum[0]).sum::<f64>() as f32;
            *dgamma = of_channel().map(|sum| sum[1]).sum::<f64>() as f32;
        }
        Ok(())
    }

    fn check(&self, x: &[f32], residual: Option<&[f32]>, y: &[f32]) -> Result<(), KernelError> {
        check_length("x", x.len(), self.len())?;
        check_length("y", y.len(), self.len())?;
        residual.map_or(Ok(()), |residual| check_length("residual", residual.len(), self.len()))
    }

    fn parts<'v>(&self, x: &'v [f32], residual: Option<&'v [f32]>, y: &'v mut [f32]) -> Vec<ForwardPart<'v>> {
        let groups = self.shape.groups();
        let residual = residual.map_or_else(|| vec![Vec::new(); groups], |r| self.shape.split(r));
        let planes = self.shape.split(x).into_iter().zip(residual).zip(self.shape.split_mut(y));
        planes.map(|((x, residual), y)| ForwardPart { x, residual, y }).collect()
    }
}

/// What maps a value of one group: u = (x − mean) · scale + offset.
#[derive(Clone, Copy)]
struct Point {
    mean: f32,
    inv_sd: f32,
    /// γ / sd
    scale: f32,
    /// β
    offset: f32,
    slope: f32,
}

/// One group's planes. `residual` is empty where there is none.
struct ForwardPart<'a> {
    x: Vec<&'a [f32]>,
    residual: Vec<&'a [f32]>,
    y: Vec<&'a mut [f32]>,
}

impl ForwardPart<'_> {
    fn apply(self, point: Point) {
        let mut residual = self.residual.into_iter();
        for (x, y) in self.x.into_iter().zip(self.y) {
            vectorised(Forward { point, x, residual: residual.next(), y });
        }
    }
}

struct BackwardPart<'a> {
    x: Vec<&'a [f32]>,
    dy: Vec<&'a [f32]>,
    dx: Vec<&'a mut [f32]>,
    residual: Vec<&'a [f32]>,
    dr: Vec<&'a mut [f32]>,
}

impl BackwardPart<'_> {
    /// Writes the gradients and returns Σ g and Σ g x̂, g being the gradient at the activation's input.
    fn apply(self, point: Point) -> [f64; 2] {
        let mut sums = [0.0; 2];
        let mut count = 0;
        for (plane, (x, dy)) in self.x.iter().zip(&self.dy).enumerate() {
            let found = vectorised(Sums { point, x, dy, residual: self.residual.get(plane).copied() });
            sums = [sums[0] + found[0], sums[1] + found[1]];
            count += x.len();
        }
        let means = sums.map(|sum| (sum / count as f64) as f32);
        let (mut residual, mut dr) = (self.residual.into_iter(), self.dr.into_iter());
        for ((x, dy), dx) in self.x.into_iter().zip(self.dy).zip(self.dx) {
            vectorised(Backward { point, means, x, dy, residual: residual.next(), dx, dr: dr.next() });
        }
        sums
    }
}

/// Count, mean and sum of squared deviations of some values.
#[derive(Clone, Copy, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    /// Of both together (Chan et al. 1979).
    fn and(self, other: Self) -> Self {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * (other.count / count),
            squares: self.squares + other.squares + apart * apart * (self.count * other.count / count),
        }
    }
}

/// The spread of one block, not empty. A first mean in single precision, then the deviations from it, which put it right:
/// an offset of any size costs no digits.
struct Measure<'a>(&'a [f32]);

impl Kernel for Measure<'_> {
    type Output = Spread;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Spread {
        let count = self.0.len() as f64;
        let about = (sum(simd, self.0) / count) as f32;

        let centre = simd.splat(about);
        let (chunks, rest) = simd.chunks(self.0);
        let mut sums = [simd.splat(0.0); SUMS];
        let mut squares = [simd.splat(0.0); SUMS];
        let mut wide = chunks.chunks_exact(SUMS);
        for four in &mut wide {
            for i in 0..SUMS {
                let apart = simd.sub(simd.load(&four[i]), centre);
                sums[i] = simd.add(sums[i], apart);
                squares[i] = simd.fma(apart, apart, squares[i]);
            }
        }
        let one = |value: S::Vector, sums: &mut S::Vector, squares: &mut S::Vector| {
            let apart = simd.sub(value, centre);
            *sums = simd.add(*sums, apart);
            *squares = simd.fma(apart, apart, *squares);
        };
        for chunk in wide.remainder() {
            one(simd.load(chunk), &mut sums[0], &mut squares[0]);
        }
        one(simd.load_rest(rest, about), &mut sums[1], &mut squares[1]);
        let apart = total(simd, sums);
        Spread {
            count,
            mean: f64::from(about) + apart / count,
            squares: (total(simd, squares) - apart * apart / count).max(0.0),
        }
    }
}

/// A group's constants in registers.
#[derive(Clone, Copy)]
struct Registers<S: Simd> {
    simd: S,
    mean: S::Vector,
    scale: S::Vector,
    offset: S::Vector,
    slope: S::Vector,
}

impl<S: Simd> Registers<S> {
    #[inline(always)]
    fn new(simd: S, point: Point) -> Self {
        Self {
            simd,
            mean: simd.splat(point.mean),
            scale: simd.splat(point.scale),
            offset: simd.splat(point.offset),
            slope: simd.splat(point.slope),
        }
    }

    /// The activation's input, but for the residual. Backward calls this too, so that both see the same sign.
    #[inline(always)]
    fn before(self, x: S::Vector) -> S::Vector {
        self.simd.fma(self.simd.sub(x, self.mean), self.scale, self.offset)
    }

    #[inline(always)]
    fn activate(self, u: S::Vector) -> S::Vector {
        self.simd.where_positive(u, u, self.simd.mul(u, self.slope))
    }

    /// The gradient at the activation's input.
    #[inline(always)]
    fn unbend(self, u: S::Vector, dy: S::Vector) -> S::Vector {
        self.simd.where_positive(u, dy, self.simd.mul(dy, self.slope))
    }
}

struct Forward<'a> {
    point: Point,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let at = Registers::new(simd, self.point);
        let (xs, x_rest) = simd.chunks(self.x);
        let (ys, y_rest) = simd.chunks_mut(self.y);
        match self.residual {
            None => {
                for (x, y) in xs.iter().zip(ys) {
                    simd.store(at.activate(at.before(simd.load(x))), y);
                }
                simd.store_rest(at.activate(at.before(simd.load_rest(x_rest, 0.0))), y_rest);
            }
            Some(residual) => {
                let (rs, r_rest) = simd.chunks(residual);
                for ((x, r), y) in xs.iter().zip(rs).zip(ys) {
                    simd.store(at.activate(simd.add(at.before(simd.load(x)), simd.load(r))), y);
                }
                let u = simd.add(at.before(simd.load_rest(x_rest, 0.0)), simd.load_rest(r_rest, 0.0));
                simd.store_rest(at.activate(u), y_rest);
            }
        }
    }
}

/// Σ g and Σ g x̂ of one plane.
struct Sums<'a> {
    point: Point,
    x: &'a [f32],
    dy: &'a [f32],
    residual: Option<&'a [f32]>,
}

impl Kernel for Sums<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [f64; 2] {
        let at = Registers::new(simd, self.point);
        let mut all = [0.0; 2];
        let residual = self.residual.unwrap_or(&[]);
        for (block, (x, dy)) in self.x.chunks(BLOCK).zip(self.dy.chunks(BLOCK)).enumerate() {
            let mut sums = [[simd.splat(0.0); SUMS]; 2];
            let add = |x: S::Vector, dy: S::Vector, r: S::Vector, sums: &mut [[S::Vector; SUMS]; 2], i: usize| {
                let g = at.unbend(simd.add(at.before(x), r), dy);
                sums[0][i] = simd.add(sums[0][i], g);
                sums[1][i] = simd.fma(g, simd.sub(x, at.mean), sums[1][i]);
            };
            let (xs, x_rest) = simd.chunks(x);
            let (dys, dy_rest) = simd.chunks(dy);
            let none = simd.splat(0.0);
            let (mut x4, mut dy4) = (xs.chunks_exact(SUMS), dys.chunks_exact(SUMS));
            let r_rest = match self.residual {
                None => {
                    for (x, dy) in (&mut x4).zip(&mut dy4) {
                        for i in 0..SUMS {
                            add(simd.load(&x[i]), simd.load(&dy[i]), none, &mut sums, i);
                        }
                    }
                    for (x, dy) in x4.remainder().iter().zip(dy4.remainder()) {
                        add(simd.load(x), simd.load(dy), none, &mut sums, 0);
                    }
                    none
                }
                Some(_) => {
                    let (rs, r_rest) = simd.chunks(residual.chunks(BLOCK).nth(block).unwrap_or(&[]));
                    let mut r4 = rs.chunks_exact(SUMS);
                    for ((x, dy), r) in (&mut x4).zip(&mut dy4).zip(&mut r4) {
                        for i in 0..SUMS {
                            add(simd.load(&x[i]), simd.load(&dy[i]), simd.load(&r[i]), &mut sums, i);
                        }
                    }
                    for ((x, dy), r) in x4.remainder().iter().zip(dy4.remainder()).zip(r4.remainder()) {
                        add(simd.load(x), simd.load(dy), simd.load(r), &mut sums, 0);
                    }
                    simd.load_rest(r_rest, 0.0)
                }
            };
            // Lanes beyond the end have no gradient and so add nothing.
            add(simd.load_rest(x_rest, 0.0), simd.load_rest(dy_rest, 0.0), r_rest, &mut sums, 1);
            all = [all[0] + total(simd, sums[0]), all[1] + total(simd, sums[1])];
        }
        [all[0], all[1] * f64::from(self.point.inv_sd)]
    }
}

/// dx = γ / sd · (g − mean g − x̂ · mean(g x̂)), dr = g.
struct Backward<'a> {
    point: Point,
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
        let at = Registers::new(simd, self.point);
        let mean_g = simd.splat(self.means[0]);
        let pull = simd.splat(-self.means[1] * self.point.inv_sd);
        let gradient = |x: S::Vector, g: S::Vector| {
            let centred = simd.fma(simd.sub(x, at.mean), pull, simd.sub(g, mean_g));
            simd.mul(centred, at.scale)
        };
        let (xs, x_rest) = simd.chunks(self.x);
        let (dys, dy_rest) = simd.chunks(self.dy);
        let (dxs, dx_rest) = simd.chunks_mut(self.dx);
        let (x_last, dy_last) = (simd.load_rest(x_rest, 0.0), simd.load_rest(dy_rest, 0.0));
        match (self.residual, self.dr) {
            (Some(residual), Some(dr)) => {
                let (rs, r_rest) = simd.chunks(residual);
                let (drs, dr_rest) = simd.chunks_mut(dr);
                for ((((x, dy), r), dx), dr) in xs.iter().zip(dys).zip(rs).zip(dxs).zip(drs) {
                    let x = simd.load(x);
                    let g = at.unbend(simd.add(at.before(x), simd.load(r)), simd.load(dy));
                    simd.store(gradient(x, g), dx);
                    simd.store(g, dr);
                }
                let g = at.unbend(simd.add(at.before(x_last), simd.load_rest(r_rest, 0.0)), dy_last);
                simd.store_rest(gradient(x_last, g), dx_rest);
                simd.store_rest(g, dr_rest);
            }
            _ => {
                for ((x, dy), dx) in xs.iter().zip(dys).zip(dxs) {
                    let x = simd.load(x);
                    simd.store(gradient(x, at.unbend(at.before(x), simd.load(dy))), dx);
                }
                simd.store_rest(gradient(x_last, at.unbend(at.before(x_last), dy_last)), dx_rest);
            }
        }
    }
}
