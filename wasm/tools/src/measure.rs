//! Lengths and angles between patient positions.

use sulcus_volume::RasPoint;

/// The distance between two positions in millimetres.
pub(crate) fn distance_mm(a: RasPoint, b: RasPoint) -> f64 {
    length(between(a, b))
}

/// The angle at `corner` between the directions to two positions, in degrees from 0 to 180; NaN if one of them is the corner.
pub(crate) fn angle_degrees(a: RasPoint, corner: RasPoint, b: RasPoint) -> f64 {
    let (a, b) = (between(corner, a), between(corner, b));
    let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    (dot / (length(a) * length(b))).clamp(-1.0, 1.0).acos().to_degrees()
}

fn between(from: RasPoint, to: RasPoint) -> [f64; 3] {
    std::array::from_fn(|i| to.0[i] - from.0[i])
}

fn length(vector: [f64; 3]) -> f64 {
    vector.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_angles_match_manual_computation() {
        let [origin, x, y] = [[0.0; 3], [3.0, 0.0, 0.0], [0.0, 0.0, -4.0]].map(RasPoint);
        assert_eq!(distance_mm(x, y), 5.0);
        assert_eq!(angle_degrees(x, origin, y), 90.0);
        assert_eq!(angle_degrees(x, origin, x), 0.0);
        assert!((angle_degrees(origin, x, y) - (4.0_f64 / 3.0).atan().to_degrees()).abs() < 1e-12);
        assert!(angle_degrees(origin, origin, y).is_nan());
    }
}
