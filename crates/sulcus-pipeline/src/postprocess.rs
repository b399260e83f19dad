use serde::{Deserialize, Serialize};
use sulcus_volume::Label;

/// What is done to a mask after the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Postprocess {
    /// Of all voxels that have one of these labels, keep the largest connected component (26 neighbours); the
    /// others become background.
    KeepLargestComponent {
        /// The labels taken together.
        labels: Vec<Label>,
    },
}

impl Postprocess {
    /// Applies it in place to `[z, y, x]` labels of shape x, y, z.
    pub(crate) fn apply(&self, mask: &mut [Label], shape: [usize; 3]) {
        match self {
            Self::KeepLargestComponent { labels } => keep_largest(mask, shape, labels),
        }
    }
}

fn keep_largest(mask: &mut [Label], [nx, ny, nz]: [usize; 3], labels: &[Label]) {
    const UNSEEN: u32 = 0;
    let mut component = vec![UNSEEN; mask.len()];
    let mut sizes: Vec<usize> = Vec::new();
    let mut stack = Vec::new();
    for seed in 0..mask.len() {
        if component[seed] != UNSEEN || !labels.contains(&mask[seed]) {
            continue;
        }
        let id = sizes.len() as u32 + 1;
        let mut size = 0;
        component[seed] = id;
        stack.push(seed);
        while let Some(at) = stack.pop() {
            size += 1;
            let (x, y, z) = (at % nx, at / nx % ny, at / nx / ny);
            for z in z.saturating_sub(1)..(z + 2).min(nz) {
                for y in y.saturating_sub(1)..(y + 2).min(ny) {
                    for x in x.saturating_sub(1)..(x + 2).min(nx) {
                        let next = (z * ny + y) * nx + x;
                        if component[next] == UNSEEN && labels.contains(&mask[next]) {
                            component[next] = id;
                            stack.push(next);
                        }
                    }
                }
            }
        }
        sizes.push(size);
    }
    // The first of equal ones, so that the answer does not depend on anything but the mask.
    let largest = sizes.iter().enumerate().rev().max_by_key(|(_, size)| **size).map(|(i, _)| i as u32 + 1);
    for (label, id) in mask.iter_mut().zip(component) {
        if id != UNSEEN && Some(id) != largest {
            *label = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_largest_component_of_the_named_labels_stays() {
        // Two blobs of labels 1 and 2 that touch by a corner, a lone 1, and a 3 that is not meant.
        let mut mask = vec![0; 5 * 5 * 2];
        for (at, label) in [(0, 1), (1, 1), (7, 2), (24, 1), (49, 3)] {
            mask[at] = label;
        }
        Postprocess::KeepLargestComponent { labels: vec![1, 2] }.apply(&mut mask, [5, 5, 2]);
        assert_eq!([mask[0], mask[1], mask[7], mask[24], mask[49]], [1, 1, 2, 0, 3]);
    }
}
