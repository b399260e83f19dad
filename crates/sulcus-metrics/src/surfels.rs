//! Surface areas in a cube of eight voxel centres: marching cubes (Lorensen & Cline 1987).
//!
//! The code of a cube has one bit for each corner: bit x + 2y + 4z is set if corner (x, y, z) is inside. The surface
//! intersects each edge between an inside and an outside corner at its midpoint. On a face whose corners alternate, the
//! intersections can be connected in two ways; as in the original paper, the corners of the rarer kind in the cube are
//! separated (the inside corners if there are four of each). The intersections then form closed polygons. Each polygon is
//! divided into triangles so that their area in a unit cube is the largest; these are the triangles of
//! `surface-distance`'s table for every code.

use std::sync::LazyLock;

/// Area vectors (normal times area, arbitrary sign) of each code's triangles, in a unit cube.
static TRIANGLES: LazyLock<Vec<Vec<[f64; 3]>>> = LazyLock::new(|| (0..=u8::MAX).map(triangles).collect());

/// Area in mm² of the surface in a cube of each code, for voxel centres `spacing_mm` apart.
pub(super) fn areas_mm2([x, y, z]: [f64; 3]) -> Vec<f64> {
    let scale = [y * z, x * z, x * y];
    let area = |normal: &[f64; 3]| length(std::array::from_fn(|axis| normal[axis] * scale[axis]));
    TRIANGLES.iter().map(|triangles| triangles.iter().map(area).sum()).collect()
}

/// Length in mm of the contour in a square of four pixel centres, corner (x, y) in bit x + 2y. The contour intersects
/// edges at their midpoints, and diagonally opposite corners are separated.
pub(super) fn lengths_mm([x, y]: [f64; 2]) -> Vec<f64> {
    let corner = x.hypot(y) / 2.0;
    let length = |code: u8| match code {
        0b0000 | 0b1111 => 0.0,
        0b0011 | 0b1100 => x,
        0b0101 | 0b1010 => y,
        0b0110 | 0b1001 => 2.0 * corner,
        _ => corner,
    };
    (0..=0b1111).map(length).collect()
}

/// An edge of the cube as the bits of its two corners.
type Edge = [u8; 2];

fn middle([a, b]: Edge) -> [f64; 3] {
    std::array::from_fn(|axis| f64::from((a >> axis & 1) + (b >> axis & 1)) / 2.0)
}

fn length(v: [f64; 3]) -> f64 {
    v.iter().map(|c| c * c).sum::<f64>().sqrt()
}

fn triangles(code: u8) -> Vec<[f64; 3]> {
    polygons(code).iter().flat_map(|polygon| split(polygon).1).collect()
}

/// Closed polygons of intersected edges.
fn polygons(code: u8) -> Vec<Vec<Edge>> {
    let inside = |corner: u8| code >> corner & 1 == 1;
    let kept_apart = code.count_ones() <= 4;
    // Each intersected edge belongs to two faces, so it occurs in two links, and following the links returns to the
    // start.
    let mut links: Vec<[Edge; 2]> = Vec::new();
    for axis in 0..3 {
        let (u, v) = (1 << ((axis + 1) % 3), 1 << ((axis + 2) % 3));
        for side in [0, 1 << axis] {
            let ring = [side, side | u, side | u | v, side | v];
            let edge = |i: usize| {
                let (a, b) = (ring[i % 4], ring[(i + 1) % 4]);
                [a.min(b), a.max(b)]
            };
            let cut: Vec<usize> = (0..4).filter(|i| inside(ring[*i]) != inside(ring[(i + 1) % 4])).collect();
            match cut.as_slice() {
                [a, b] => links.push([edge(*a), edge(*b)]),
                // The edges before and after each corner that is separated.
                [_, _, _, _] => {
                    let corners = (1..=4).filter(|i| inside(ring[i % 4]) == kept_apart);
                    links.extend(corners.map(|i| [edge(i - 1), edge(i)]));
                }
                _ => {}
            }
        }
    }
    let mut polygons = Vec::new();
    while let Some([first, mut at]) = links.pop() {
        let mut polygon = vec![first];
        while at != first {
            polygon.push(at);
            let Some(next) = links.iter().position(|link| link.contains(&at)) else { break };
            let [a, b] = links.swap_remove(next);
            at = if a == at { b } else { a };
        }
        polygons.push(polygon);
    }
    polygons
}

/// The triangulation of a polygon with the largest area, and this area.
fn split(polygon: &[Edge]) -> (f64, Vec<[f64; 3]>) {
    let &[first, .., last] = polygon else { return (0.0, Vec::new()) };
    let mut best = (0.0, Vec::new());
    for apex in 1..polygon.len() - 1 {
        let [a, b, c] = [first, polygon[apex], last].map(middle);
        let side = |to: [f64; 3]| -> [f64; 3] { std::array::from_fn(|axis| to[axis] - a[axis]) };
        let (p, q) = (side(b), side(c));
        let normal = std::array::from_fn(|i| {
            let (j, k) = ((i + 1) % 3, (i + 2) % 3);
            (p[j] * q[k] - p[k] * q[j]) / 2.0
        });
        let (before, after) = (split(&polygon[..=apex]), split(&polygon[apex..]));
        let area = before.0 + after.0 + length(normal);
        if area > best.0 {
            best = (area, [before.1, vec![normal], after.1].concat());
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(code: u8) -> f64 {
        areas_mm2([1.0; 3])[usize::from(code)]
    }

    #[test]
    fn simple_codes_have_the_areas_of_their_figures() {
        let corner = 3_f64.sqrt() / 8.0;
        assert_eq!((area(0), area(255)), (0.0, 0.0));
        // One corner, two along an edge, a face, two across a face, a corner with its three neighbours (a regular hexagon).
        let expected = [corner, 0.5_f64.sqrt(), 1.0, 2.0 * corner, 6.0 * corner];
        for (code, expected) in [0b1, 0b11, 0b1111, 0b1001, 0b10111].into_iter().zip(expected) {
            assert!((area(code) - expected).abs() < 1e-12, "{code:b}: {} {expected}", area(code));
        }
        let oblong = areas_mm2([1.0, 2.0, 5.0]);
        // The faces across x, y and z.
        assert_eq!([oblong[0b1010_1010], oblong[0b1100_1100], oblong[0b1111_0000]], [10.0, 5.0, 2.0]);
    }

    #[test]
    fn inverted_codes_have_the_same_area_and_polygons_are_closed() {
        let areas = areas_mm2([0.7, 1.3, 2.9]);
        for code in 0..=u8::MAX {
            assert!((areas[usize::from(code)] - areas[usize::from(!code)]).abs() < 1e-12, "{code}");
            let cut: usize = polygons(code).iter().map(Vec::len).sum();
            let edges = (0..8_u8).flat_map(|a| [1, 2, 4].map(|bit| (a, a | bit))).filter(|(a, b)| a != b);
            let crossed = edges.filter(|(a, b)| (code >> a & 1) != (code >> b & 1)).count();
            assert_eq!(cut, crossed, "{code}");
        }
    }

    #[test]
    fn contours_have_the_lengths_of_their_lines() {
        let lengths = lengths_mm([3.0, 4.0]);
        assert_eq!(lengths, [0.0, 2.5, 2.5, 3.0, 2.5, 4.0, 5.0, 2.5, 2.5, 5.0, 4.0, 2.5, 3.0, 2.5, 2.5, 0.0]);
    }
}
