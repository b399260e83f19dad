use std::fmt;
use std::str::FromStr;

use crate::VolumeError;

/// A direction along one patient axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisDirection {
    ras_axis: u8,
    positive: bool,
}

const LETTERS: [[char; 2]; 3] = [['L', 'R'], ['P', 'A'], ['I', 'S']];

impl AxisDirection {
    fn from_letter(letter: char) -> Option<Self> {
        let wanted = letter.to_ascii_uppercase();
        LETTERS.iter().enumerate().find_map(|(axis, pair)| {
            let side = pair.iter().position(|l| *l == wanted)?;
            Some(Self { ras_axis: axis as u8, positive: side == 1 })
        })
    }

    /// The index in RAS coordinates: 0 for left–right, 1 for posterior–anterior, 2 for inferior–superior.
    pub fn ras_axis(self) -> usize {
        usize::from(self.ras_axis)
    }

    /// +1 towards R, A or S; −1 towards L, P or I.
    pub fn sign(self) -> f64 {
        if self.positive { 1.0 } else { -1.0 }
    }

    /// The letter of the direction: R, L, A, P, S or I.
    pub fn letter(self) -> char {
        LETTERS[self.ras_axis()][usize::from(self.positive)]
    }

    /// The opposite direction along the same axis.
    pub fn opposite(self) -> Self {
        Self { positive: !self.positive, ..self }
    }
}

/// The patient directions of the x, y and z axis of a grid, as a three-letter code. `RAS` means that x runs to the right,
/// y to anterior and z to superior. There are 48 orientations.
///
/// ```
/// use sulcus_volume::Orientation;
///
/// let orientation: Orientation = "LPS".parse()?;
/// assert_eq!(orientation.axes()[0].letter(), 'L');
/// # Ok::<(), sulcus_volume::VolumeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Orientation([AxisDirection; 3]);

impl Orientation {
    /// Right, anterior, superior: the axes of NIfTI world space.
    pub const RAS: Self = Self([
        AxisDirection { ras_axis: 0, positive: true },
        AxisDirection { ras_axis: 1, positive: true },
        AxisDirection { ras_axis: 2, positive: true },
    ]);

    /// Left, posterior, superior: the columns and rows of a picture, and the axes of DICOM and ITK.
    pub const LPS: Self = Self([
        AxisDirection { ras_axis: 0, positive: false },
        AxisDirection { ras_axis: 1, positive: false },
        AxisDirection { ras_axis: 2, positive: true },
    ]);

    /// Left, posterior, inferior.
    pub const LPI: Self = Self([
        AxisDirection { ras_axis: 0, positive: false },
        AxisDirection { ras_axis: 1, positive: false },
        AxisDirection { ras_axis: 2, positive: false },
    ]);

    /// The directions of the x, y and z axis.
    pub fn axes(self) -> [AxisDirection; 3] {
        self.0
    }

    /// The orientation of a grid with the axes of this one in another order and partly reversed: for each new axis, the axis
    /// of this one and whether it is reversed. `order` must name each axis once.
    pub(crate) fn rearranged(self, order: [(usize, bool); 3]) -> Self {
        Self(order.map(|(axis, reversed)| if reversed { self.0[axis].opposite() } else { self.0[axis] }))
    }

    /// The orientation of a grid whose axes are these axes in another order: axis `i` of it is axis `order[i]` of this one. `None` if
    /// `order` does not name each axis once.
    ///
    /// ```
    /// use sulcus_volume::Orientation;
    ///
    /// assert_eq!(Orientation::LPI.permuted([2, 0, 1]), Some("ILP".parse()?));
    /// assert_eq!(Orientation::LPI.permuted([2, 2, 1]), None);
    /// # Ok::<(), sulcus_volume::VolumeError>(())
    /// ```
    pub fn permuted(self, order: [usize; 3]) -> Option<Self> {
        let names_each = (0..3).all(|axis| order.contains(&axis));
        names_each.then(|| self.rearranged(order.map(|axis| (axis, false))))
    }

    /// All 48 orientations.
    pub fn all() -> impl Iterator<Item = Self> {
        const ORDERS: [[u8; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        ORDERS.into_iter().flat_map(|order| {
            (0..8_u8).map(move |signs| {
                Self(std::array::from_fn(|i| AxisDirection { ras_axis: order[i], positive: signs >> i & 1 == 1 }))
            })
        })
    }

    /// nibabel's `io_orientation`: takes the rotation closest to the transform (its polar factor) and assigns a patient
    /// axis to each voxel axis, beginning with the voxel axis that has the largest component.
    pub(crate) fn closest_to(rows: [[f64; 4]; 3], spacing_mm: [f64; 3]) -> Self {
        let mut m: [[f64; 3]; 3] =
            std::array::from_fn(|row| std::array::from_fn(|col| rows[row][col] / spacing_mm[col]));
        // Newton's iteration for the polar factor (Higham 1986): X ← (X + X⁻ᵀ) / 2; X⁻ᵀ = cofactors / det.
        for _ in 0..100 {
            let cof = cofactors(&m);
            let det: f64 = (0..3).map(|c| m[0][c] * cof[0][c]).sum();
            let next: [[f64; 3]; 3] =
                std::array::from_fn(|r| std::array::from_fn(|c| 0.5 * (m[r][c] + cof[r][c] / det)));
            let change = (0..9).map(|i| (next[i / 3][i % 3] - m[i / 3][i % 3]).abs()).fold(0.0, f64::max);
            m = next;
            if change < 1e-14 {
                break;
            }
        }
        let largest_component = |col: usize| (0..3).map(|r| m[r][col].abs()).fold(0.0, f64::max);
        let mut order = [0, 1, 2];
        order.sort_by(|a, b| largest_component(*b).total_cmp(&largest_component(*a)));
        let mut free = [true; 3];
        let mut axes = Self::RAS.0;
        for col in order {
            let mut best = None::<usize>;
            for row in (0..3).filter(|r| free[*r]) {
                if best.is_none_or(|b| m[row][col].abs() > m[b][col].abs()) {
                    best = Some(row);
                }
            }
            let row = best.unwrap_or(0);
            free[row] = false;
            axes[col] = AxisDirection { ras_axis: row as u8, positive: m[row][col] > 0.0 };
        }
        Self(axes)
    }
}

fn cofactors(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|r| {
        std::array::from_fn(|c| {
            let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
            m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
        })
    })
}

impl FromStr for Orientation {
    type Err = VolumeError;
    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let bad = || VolumeError::Orientation(code.chars().take(16).collect());
        let axes: Vec<AxisDirection> = code.chars().map_while(AxisDirection::from_letter).collect();
        let axes: [AxisDirection; 3] = axes.try_into().map_err(|_| bad())?;
        let mut seen = [false; 3];
        axes.iter().for_each(|a| seen[a.ras_axis()] = true);
        if code.chars().count() != 3 || seen.contains(&false) { Err(bad()) } else { Ok(Self(axes)) }
    }
}

impl TryFrom<String> for Orientation {
    type Error = VolumeError;
    fn try_from(code: String) -> Result<Self, Self::Error> {
        code.parse()
    }
}

impl From<Orientation> for String {
    fn from(orientation: Orientation) -> Self {
        orientation.to_string()
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.map(AxisDirection::letter).iter().collect::<String>())
    }
}

impl fmt::Debug for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Orientation({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_48_distinct_orientations() {
        let mut codes: Vec<String> = Orientation::all().map(|o| o.to_string()).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), 48);
        assert!(Orientation::all().all(|o| o.to_string().parse() == Ok(o)));
    }

    #[test]
    fn invalid_orientation_codes_are_refused() {
        for code in ["", "RA", "RAX", "RLS", "RASS", "ÄÖÜ"] {
            assert!(code.parse::<Orientation>().is_err(), "{code}");
        }
    }
}
