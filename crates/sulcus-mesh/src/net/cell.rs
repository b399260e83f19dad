//! The surface within a cell: the cube between eight neighbouring voxel centres, each inside or outside the label.
//!
//! Where an edge of the cell joins a voxel inside and one outside, it crosses a face of a voxel. The faces that meet in the cell
//! form one closed fan or several, each of which gets a vertex of its own.

/// The corners of a cell that are inside: bit x + 2 y + 4 z.
pub(super) type Corners = u8;

/// An edge of a cell: the axis along which it runs, and the position (0 or 1) of its corners along the next two axes in cyclic
/// order.
pub(super) fn edge_number(axis: usize, next: [usize; 2]) -> usize {
    axis * 4 + next[0] + 2 * next[1]
}

const EDGES: usize = 12;
/// A side of a cell: twice the axis across it, plus 1 for the far side.
pub(super) type Side = u8;

/// The fans of a cell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fans {
    /// The number of the fan that each edge belongs to; meaningless for edges that cross no face.
    of_edge: [u8; EDGES],
    /// The number of fans.
    pub(super) count: u8,
    /// A side whose two edges of the surface lie in the same fan. If that is so in both cells of the side, these two edges would
    /// have the same two vertices.
    pub(super) doubled: Option<Side>,
}

impl Fans {
    /// The fan of an edge.
    pub(super) fn of(&self, edge: usize) -> u32 {
        u32::from(self.of_edge[edge])
    }
}

/// The fans of all 256 kinds of cells.
///
/// On a side with two opposite corners inside, the four crossed edges can be joined in two ways. `usual` separates the inside
/// corners, `joined` the outside ones. Both cells of a side must agree: they take `joined` where both have the side as `doubled`.
/// Each of the 36 kinds of cells with such a side has just this one side with a choice.
pub(super) struct Table {
    pub(super) usual: Vec<Fans>,
    pub(super) joined: Vec<Fans>,
}

impl Table {
    pub(super) fn new() -> Self {
        let all = |separate: bool| (0..=Corners::MAX).map(|corners| fans(corners, separate)).collect();
        Self { usual: all(true), joined: all(false) }
    }
}

/// The four corners of a side in the order around it.
fn corners_of(side: Side) -> [[usize; 3]; 4] {
    let axis = usize::from(side / 2);
    [[0, 0], [1, 0], [1, 1], [0, 1]].map(|[u, w]| {
        let mut corner = [0; 3];
        corner[axis] = usize::from(side % 2);
        corner[(axis + 1) % 3] = u;
        corner[(axis + 2) % 3] = w;
        corner
    })
}

fn is_inside(corners: Corners, [x, y, z]: [usize; 3]) -> bool {
    corners >> (x + 2 * y + 4 * z) & 1 == 1
}

/// The edge between two corners that differ along one axis.
fn edge_between(a: [usize; 3], b: [usize; 3]) -> usize {
    let axis = (0..3).find(|axis| a[*axis] != b[*axis]).unwrap_or(0);
    edge_number(axis, [a[(axis + 1) % 3], a[(axis + 2) % 3]])
}

fn fans(corners: Corners, separate_inside: bool) -> Fans {
    let mut group: [usize; EDGES] = std::array::from_fn(|edge| edge);
    let mut is_crossed = [false; EDGES];
    // The sides with a choice, and an edge of each of their pairs.
    let mut choices = Vec::new();
    for side in 0..6 {
        let around = corners_of(side);
        let edge = |i: usize| edge_between(around[i % 4], around[(i + 1) % 4]);
        let crossed: Vec<usize> = (0..4)
            .filter(|i| is_inside(corners, around[*i]) != is_inside(corners, around[(i + 1) % 4]))
            .map(edge)
            .collect();
        crossed.iter().for_each(|edge| is_crossed[*edge] = true);
        let mut join = |a: usize, b: usize| {
            let (from, to) = (group[a], group[b]);
            group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
        };
        match crossed[..] {
            [a, b] => join(a, b),
            [_, _, _, _] => {
                // The two edges at a corner are joined around it, which separates it from the opposite corner.
                let pairs: Vec<[usize; 2]> = (0..4)
                    .filter(|i| is_inside(corners, around[*i]) == separate_inside)
                    .map(|i| [edge(i + 3), edge(i)])
                    .collect();
                pairs.iter().for_each(|[a, b]| join(*a, *b));
                choices.push((side, pairs[0][0], pairs[1][0]));
            }
            _ => {}
        }
    }
    let mut fans = Fans::default();
    let mut seen: Vec<usize> = Vec::new();
    for edge in (0..EDGES).filter(|edge| is_crossed[*edge]) {
        let number = seen.iter().position(|g| *g == group[edge]).unwrap_or_else(|| {
            seen.push(group[edge]);
            seen.len() - 1
        });
        fans.of_edge[edge] = number as u8;
    }
    fans.count = seen.len() as u8;
    fans.doubled = choices.into_iter().find(|(_, a, b)| group[*a] == group[*b]).map(|(side, ..)| side);
    fans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_a_doubled_side_have_no_other_choice_and_joining_separates_it() {
        let table = Table::new();
        let doubled: Vec<usize> = (0..256).filter(|c| table.usual[*c].doubled.is_some()).collect();
        assert_eq!(doubled.len(), 36);
        for corners in doubled {
            let choices = (0..6).filter(|side| {
                let inside = corners_of(*side).map(|corner| is_inside(corners as Corners, corner));
                inside == [true, false, true, false] || inside == [false, true, false, true]
            });
            assert_eq!(choices.count(), 1, "{corners:08b}");
            assert_eq!(table.joined[corners].count, table.usual[corners].count + 1, "{corners:08b}");
        }
    }

    #[test]
    fn fans_are_those_of_known_cells() {
        let table = Table::new();
        assert_eq!((table.usual[0].count, table.usual[255].count), (0, 0));
        assert_eq!((table.usual[1].count, table.usual[0b1111].count), (1, 1));
        assert_eq!(table.usual[0b1000_0001].count, 2, "opposite corners of the cube");
        assert_eq!(table.usual[0b1001].count, 2, "opposite corners of a side");
        assert_eq!(table.usual[0b0110_1001].count, 4, "every second corner");
        assert_eq!(table.usual[0b0111_1110].count, 2, "the inside is one piece: two outer corners");
    }
}
