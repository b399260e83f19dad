//! Colours of intensities.

/// The colours of 256 intensities.
pub type ColorTable = [[u8; 3]; 256];

/// The colours in which the intensities of a window are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Colormap {
    /// From black to white.
    #[default]
    Grey,
    /// From white to black.
    Inverted,
    /// From black through red and yellow to white.
    Hot,
    /// From violet through green to yellow, with a lightness that rises evenly (van der Walt & Smith 2015).
    Viridis,
    /// From blue through white to red, for values on both sides of a middle (Moreland 2009).
    CoolWarm,
}

impl Colormap {
    /// All colour maps in the order of the page.
    pub const ALL: [Self; 5] = [Self::Grey, Self::Inverted, Self::Hot, Self::Viridis, Self::CoolWarm];

    /// Colours at equal distances, between which the table is linear.
    fn stops(self) -> &'static [[u8; 3]] {
        match self {
            Self::Grey => &[[0; 3], [255; 3]],
            Self::Inverted => &[[255; 3], [0; 3]],
            Self::Hot => &[[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255]],
            Self::Viridis => &[
                [68, 1, 84],
                [71, 44, 122],
                [59, 81, 139],
                [44, 113, 142],
                [33, 144, 141],
                [39, 173, 129],
                [92, 200, 99],
                [170, 220, 50],
                [253, 231, 37],
            ],
            Self::CoolWarm => &[[59, 76, 192], [141, 176, 254], [221, 221, 221], [244, 152, 122], [180, 4, 38]],
        }
    }

    /// The table of colours.
    pub fn table(self) -> ColorTable {
        let stops = self.stops();
        std::array::from_fn(|grey| {
            let at = grey * (stops.len() - 1);
            let (first, rest) = (at / 255, at % 255);
            let [from, to] = [stops[first], stops[(first + 1).min(stops.len() - 1)]];
            std::array::from_fn(|i| {
                let sum = usize::from(from[i]) * (255 - rest) + usize::from(to[i]) * rest;
                ((sum + 127) / 255) as u8
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_pass_through_their_stops() {
        let grey = Colormap::Grey.table();
        assert!((0..=255_u8).all(|v| grey[usize::from(v)] == [v; 3]));
        assert_eq!(Colormap::Inverted.table()[3], [252; 3]);
        for map in Colormap::ALL {
            let (table, stops) = (map.table(), map.stops());
            assert_eq!((table[0], table[255]), (stops[0], stops[stops.len() - 1]), "{map:?}");
        }
        assert_eq!(Colormap::Hot.table()[85], [255, 0, 0]);
        assert_eq!(Colormap::Hot.table()[170], [255, 255, 0]);
    }

    #[test]
    fn viridis_gets_lighter_throughout() {
        let lightness =
            |c: [u8; 3]| 0.2126 * f64::from(c[0]) + 0.7152 * f64::from(c[1]) + 0.0722 * f64::from(c[2]);
        let table = Colormap::Viridis.table();
        assert!(table.windows(2).all(|pair| lightness(pair[1]) >= lightness(pair[0])));
    }
}
