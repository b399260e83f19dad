mod choice;

use sulcus_model::Postprocess;
use sulcus_volume::{Label, LabelMap};

use crate::PipelineError;

pub use choice::{PostprocessingChoice, choose_postprocessing};

/// Applies one step in place to `[z, y, x]` labels of shape x, y, z.
fn apply(step: &Postprocess, mask: &mut [Label], shape: [usize; 3]) {
    match step {
        Postprocess::KeepLargestComponent { labels } => keep_largest(mask, shape, &[labels], Ties::KeepFirst),
        Postprocess::KeepLargestComponents { labels } => keep_largest(mask, shape, &[labels], Ties::KeepAll),
    }
}

/// Applies a model's postprocessing steps in their order.
///
/// # Errors
/// None for a mask that was read or predicted.
pub fn postprocess(steps: &[Postprocess], mask: LabelMap) -> Result<LabelMap, PipelineError> {
    let (geometry, mut values) = mask.into_parts();
    steps.iter().for_each(|step| apply(step, &mut values, geometry.shape()));
    Ok(LabelMap::new(geometry, values)?)
}

/// Which of several components of the largest size are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ties {
    /// The first one in file order, so that the result depends only on the mask.
    KeepFirst,
    KeepAll,
}

/// Keeps the largest connected component of each group of labels. A label belongs to one group at most.
fn keep_largest(mask: &mut [Label], [nx, ny, nz]: [usize; 3], groups: &[&[Label]], ties: Ties) {
    const UNSEEN: u32 = 0;
    let mut group_of: Vec<Option<usize>> = vec![None; usize::from(Label::MAX) + 1];
    for (group, labels) in groups.iter().enumerate() {
        labels.iter().for_each(|label| group_of[usize::from(*label)] = Some(group));
    }
    let mut component = vec![UNSEEN; mask.len()];
    // Size and numbers of each group's largest components.
    let mut largest = vec![(0_usize, Vec::new()); groups.len()];
    let mut components = UNSEEN;
    let mut stack = Vec::new();
    for seed in 0..mask.len() {
        let Some(group) = group_of[usize::from(mask[seed])].filter(|_| component[seed] == UNSEEN) else {
            continue;
        };
        components += 1;
        let mut size = 0;
        component[seed] = components;
        stack.push(seed);
        while let Some(at) = stack.pop() {
            size += 1;
            let (x, y, z) = (at % nx, at / nx % ny, at / nx / ny);
            for z in z.saturating_sub(1)..(z + 2).min(nz) {
                for y in y.saturating_sub(1)..(y + 2).min(ny) {
                    for x in x.saturating_sub(1)..(x + 2).min(nx) {
                        let next = (z * ny + y) * nx + x;
                        if component[next] == UNSEEN && group_of[usize::from(mask[next])] == Some(group) {
                            component[next] = components;
                            stack.push(next);
                        }
                    }
                }
            }
        }
        let (most, kept) = &mut largest[group];
        if size > *most {
            *most = size;
            *kept = vec![components];
        } else if size == *most && ties == Ties::KeepAll {
            kept.push(components);
        }
    }
    for (label, id) in mask.iter_mut().zip(component) {
        if group_of[usize::from(*label)].is_some_and(|group| !largest[group].1.contains(&id)) {
            *label = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_largest_component_removes_smaller_components_of_named_labels() {
        // Two components of labels 1 and 2 that touch at a corner, a single 1, and a 3 that the step does not name.
        let mut mask = vec![0; 5 * 5 * 2];
        for (at, label) in [(0, 1), (1, 1), (7, 2), (24, 1), (49, 3)] {
            mask[at] = label;
        }
        apply(&Postprocess::KeepLargestComponent { labels: vec![1, 2] }, &mut mask, [5, 5, 2]);
        assert_eq!([mask[0], mask[1], mask[7], mask[24], mask[49]], [1, 1, 2, 0, 3]);
    }

    #[test]
    fn groups_stay_separate_and_the_first_of_equal_components_wins() {
        let mut mask = vec![1, 2, 2, 0, 1, 0, 2];
        keep_largest(&mut mask, [7, 1, 1], &[&[1], &[2]], Ties::KeepFirst);
        assert_eq!(mask, [1, 2, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn all_components_that_tie_for_the_largest_are_kept_where_a_step_says_so() {
        let mut mask = vec![1, 1, 0, 2, 1, 0, 1, 0, 3];
        apply(&Postprocess::KeepLargestComponents { labels: vec![1, 2] }, &mut mask, [9, 1, 1]);
        assert_eq!(mask, [1, 1, 0, 2, 1, 0, 0, 0, 3]);
    }
}
