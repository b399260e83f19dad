use std::collections::BTreeSet;

use sulcus_volume::{Label, LabelMap};

use sulcus_metrics::{count_structures, mean_defined};
use sulcus_model::{Postprocess, Structure};

use super::{Ties, apply, keep_largest};
use crate::PipelineError;

/// The postprocessing that was chosen for a model, and the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostprocessingChoice {
    /// The steps, in order.
    pub steps: Vec<Postprocess>,
    /// A sentence for each candidate step that changed a score, whether it was chosen or not; one sentence if none did.
    pub why: Vec<String>,
}

/// Chooses postprocessing by its effect on validation cases, as nnU-Net does (Isensee et al. 2021,
/// doi:10.1038/s41592-020-01008-z): keep the largest component of all foreground if that raises the mean Dice and lowers no
/// structure's Dice; then the same for each structure alone.
///
/// `cases` returns each prediction before postprocessing with its reference, one case at a time. It is called once, and
/// once more for each group of structures that do not overlap. An undefined Dice (both masks empty) is left out of its
/// mean.
///
/// # Errors
/// When a case gives an error, or its masks lie on different grids.
pub fn choose_postprocessing<I, E>(
    structures: &[Structure],
    mut cases: impl FnMut() -> I,
) -> Result<PostprocessingChoice, E>
where
    I: IntoIterator<Item = Result<(LabelMap, LabelMap), E>>,
    E: From<PipelineError>,
{
    let labels: BTreeSet<Label> = structures.iter().flat_map(|s| s.values.iter().copied()).collect();
    let labels: Vec<Label> = labels.into_iter().collect();
    let (mut steps, mut why) = (Vec::new(), Vec::new());

    let (before, after) =
        effect(structures, cases(), |mask, shape| keep_largest(mask, shape, &[&labels], Ties::KeepFirst))?;
    let (mean_before, mean_after) = (before.mean(), after.mean());
    if before.dice != after.dice {
        let worse = worse(structures, &before, &after);
        let taken = mean_after > mean_before && worse.is_empty();
        why.push(sentence("all foreground", &before, mean_before, mean_after, taken, &worse));
        if taken {
            steps.push(Postprocess::KeepLargestComponent { labels: labels.clone() });
        }
    }

    let alone = if structures.len() > 1 { independent_groups(structures) } else { Vec::new() };
    for group in alone {
        let each: Vec<&[Label]> = group.iter().map(|structure| structure.values.as_slice()).collect();
        let so_far = steps.clone();
        let start = |mask: &mut [Label], shape| so_far.iter().for_each(|step| apply(step, mask, shape));
        let prepared = cases().into_iter().map(|case| {
            let (prediction, reference) = case?;
            Ok::<_, E>((changed(&prediction, start)?, reference))
        });
        // The structures of a group are independent, so that one pass tries all of them.
        let (before, after) =
            effect(structures, prepared, |mask, shape| keep_largest(mask, shape, &each, Ties::KeepFirst))?;
        let means = before.label_means().zip(after.label_means());
        let dice = before.dice.iter().zip(&after.dice);
        for ((structure, (mean_before, mean_after)), (dice_before, dice_after)) in
            structures.iter().zip(means).zip(dice)
        {
            if dice_before == dice_after || !group.contains(&structure) {
                continue;
            }
            // Removing a component of a structure also changes the structures that overlap with it.
            let worse = if group.len() == 1 { worse(structures, &before, &after) } else { Vec::new() };
            let taken = mean_after > mean_before && worse.is_empty();
            why.push(sentence(&structure.name, &before, mean_before, mean_after, taken, &worse));
            if taken {
                steps.push(Postprocess::KeepLargestComponent { labels: structure.values.clone() });
            }
        }
    }
    if why.is_empty() {
        why.push(format!(
            "no postprocessing: over {} validation case(s), keeping only the largest components changes no score",
            before.cases
        ));
    }
    Ok(PostprocessingChoice { steps, why })
}

/// One group of all structures if they share no label value, otherwise a group for each.
fn independent_groups(structures: &[Structure]) -> Vec<Vec<&Structure>> {
    let overlap = |(index, a): (usize, &Structure)| {
        structures.iter().skip(index + 1).any(|b| a.values.iter().any(|value| b.holds(*value)))
    };
    if structures.iter().enumerate().any(overlap) {
        structures.iter().map(|structure| vec![structure]).collect()
    } else {
        vec![structures.iter().collect()]
    }
}

/// The names of the structures whose mean Dice decreases.
fn worse<'a>(structures: &'a [Structure], before: &Scores, after: &Scores) -> Vec<&'a str> {
    let means = structures.iter().zip(before.label_means().zip(after.label_means()));
    means.filter(|(_, (before, after))| after < before).map(|(s, _)| s.name.as_str()).collect()
}

/// The Dice of each structure in each case.
struct Scores {
    /// `[structure][case]`.
    dice: Vec<Vec<Option<f64>>>,
    cases: usize,
}

impl Scores {
    fn label_means(&self) -> impl Iterator<Item = Option<f64>> {
        self.dice.iter().map(|cases| mean_defined(cases.iter().copied()))
    }

    fn mean(&self) -> Option<f64> {
        mean_defined(self.label_means())
    }

    fn add(
        &mut self,
        prediction: &LabelMap,
        reference: &LabelMap,
        structures: &[Structure],
    ) -> Result<(), PipelineError> {
        let counts = count_structures(prediction, reference, structures)?;
        self.dice.iter_mut().zip(counts).for_each(|(cases, counts)| cases.push(counts.dice()));
        self.cases += 1;
        Ok(())
    }
}

/// The scores before and after a change to the predictions.
fn effect<E: From<PipelineError>>(
    structures: &[Structure],
    cases: impl IntoIterator<Item = Result<(LabelMap, LabelMap), E>>,
    change: impl Fn(&mut [Label], [usize; 3]),
) -> Result<(Scores, Scores), E> {
    let none = || Scores { dice: vec![Vec::new(); structures.len()], cases: 0 };
    let (mut before, mut after) = (none(), none());
    for case in cases {
        let (prediction, reference) = case?;
        before.add(&prediction, &reference, structures)?;
        after.add(&changed(&prediction, &change)?, &reference, structures)?;
    }
    Ok((before, after))
}

fn changed(mask: &LabelMap, change: impl Fn(&mut [Label], [usize; 3])) -> Result<LabelMap, PipelineError> {
    let (grid, mut data) = mask.clone().into_parts();
    change(&mut data, grid.shape());
    Ok(LabelMap::new(grid, data)?)
}

fn sentence(
    what: &str,
    scores: &Scores,
    before: Option<f64>,
    after: Option<f64>,
    taken: bool,
    worse: &[&str],
) -> String {
    let number = |dice: Option<f64>| dice.map_or_else(|| "undefined".to_owned(), |dice| format!("{dice:.5}"));
    let verdict = if taken { "taken" } else { "not taken" };
    let but = if worse.is_empty() { String::new() } else { format!(" and lowers {}", worse.join(", ")) };
    format!(
        "largest component of {what}: {verdict}, because it changes the mean Dice over {} validation case(s) from {} to {}{but}",
        scores.cases,
        number(before),
        number(after)
    )
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn mask(values: &[Label]) -> LabelMap {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([values.len(), 1, 1], map, OrientationSource::Sform).unwrap();
        LabelMap::new(grid, values.to_vec()).unwrap()
    }

    fn choose(cases: &[(&[Label], &[Label])]) -> PostprocessingChoice {
        let structures = [(1, "front"), (2, "back")]
            .map(|(value, name)| Structure { name: name.into(), ..Structure::label(value) });
        let given = || cases.iter().map(|(p, r)| Ok::<_, PipelineError>((mask(p), mask(r))));
        choose_postprocessing(&structures, given).unwrap()
    }

    fn keep(labels: &[Label]) -> Postprocess {
        Postprocess::KeepLargestComponent { labels: labels.to_vec() }
    }

    #[test]
    fn small_component_is_removed_from_all_foreground() {
        let choice = choose(&[(&[1, 1, 2, 2, 0, 0, 2], &[1, 1, 2, 2, 0, 0, 0])]);
        assert_eq!(choice.steps, [keep(&[1, 2])]);
        assert!(choice.why[0].starts_with("largest component of all foreground: taken"), "{:?}", choice.why);
    }

    #[test]
    fn step_is_chosen_per_structure_if_it_harms_another_structure() {
        // Label 1 has two parts in the reference; label 2 has a false island that touches label 1.
        let truth: &[Label] = &[1, 1, 1, 0, 0, 1, 1, 2, 2, 2, 2];
        let found: &[Label] = &[1, 1, 2, 0, 0, 1, 1, 2, 2, 2, 2];
        let choice = choose(&[(found, truth)]);
        assert_eq!(choice.steps, [keep(&[2])]);
        assert!(
            choice.why[0].contains("not taken") && choice.why[0].ends_with("lowers front"),
            "{:?}",
            choice.why
        );
        assert!(choice.why.iter().any(|w| w.starts_with("largest component of back: taken")));
    }

    #[test]
    fn step_that_lowers_the_mean_is_not_taken() {
        let helped: (&[Label], &[Label]) = (&[1, 1, 1, 1, 0, 1], &[1, 1, 1, 1, 0, 0]);
        let harmed: (&[Label], &[Label]) = (&[1, 1, 0, 1, 0, 0], &[1, 1, 0, 1, 0, 0]);
        assert!(choose(&[helped, harmed]).steps.is_empty());
        assert_eq!(choose(&[helped]).steps, [keep(&[1, 2])]);
    }

    #[test]
    fn structures_are_tried_after_the_foreground_step() {
        // The false voxel of label 2 is removed by the first step; after that, label 2 has one component and needs no
        // step.
        let choice = choose(&[(&[1, 1, 1, 2, 0, 2], &[1, 1, 1, 2, 0, 0])]);
        assert_eq!((choice.steps, choice.why.len()), (vec![keep(&[1, 2])], 1));
    }

    #[test]
    fn no_step_is_taken_if_scores_do_not_change() {
        let same: &[Label] = &[0, 1, 2, 0];
        let choice = choose(&[(same, same), (&[0; 4], &[0; 4])]);
        assert!(choice.steps.is_empty() && choice.why[0].starts_with("no postprocessing: over 2"), "{choice:?}");
        assert!(choose(&[]).steps.is_empty());
    }

    #[test]
    fn overlapping_regions_are_tried_one_by_one() {
        let structure = |name: &str, values: &[Label]| Structure {
            name: name.into(),
            values: values.to_vec(),
            ..Structure::label(values[0])
        };
        let regions = [structure("whole", &[1, 2]), structure("back", &[2])];
        let choose = |found: &[Label], truth: &[Label]| {
            let case = || [Ok::<_, PipelineError>((mask(found), mask(truth)))];
            choose_postprocessing(&regions, case).unwrap()
        };
        // An island of the inner region inside the outer one: it would become background, which lowers the Dice of the
        // outer one.
        let harmed = choose(&[0, 1, 2, 1, 1, 2, 2], &[0, 1, 1, 1, 1, 2, 2]);
        assert!(harmed.steps.is_empty(), "{harmed:?}");
        assert!(
            harmed.why[0].contains("of back: not taken") && harmed.why[0].ends_with("lowers whole"),
            "{harmed:?}"
        );
        // An island outside of the outer region.
        let helped = choose(&[2, 0, 1, 1, 1, 2, 2], &[0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(helped.steps, [keep(&[1, 2])]);
    }

    #[test]
    fn error_of_a_case_is_returned() {
        let broken = || [Err::<(LabelMap, LabelMap), _>(PipelineError::Cancelled)];
        assert!(matches!(choose_postprocessing(&[Structure::label(1)], broken), Err(PipelineError::Cancelled)));
    }
}
