//! A strip plot of the Dice scores of all cases.

use maud::{Markup, html};
use sulcus_metrics::{CaseScores, Summary};
use sulcus_model::Structure;

use crate::scores;

const WIDTH: f64 = 760.0;
/// Space for the names of the labels.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 20.0;
const STRIP: f64 = 58.0;
const AXIS: f64 = 26.0;
const RADIUS: f64 = 3.5;
/// Maximum number of characters of a label's name.
const MAX_NAME: usize = 20;

/// One strip per label: a dot per case along the axis of Dice, and lines at the quartiles. Dots that would overlap are moved
/// up and down.
pub(super) fn strips(summary: &Summary, structures: &[Structure]) -> Markup {
    let strips: Vec<_> = structures.iter().map(|structure| (structure, sorted_dice(summary, structure))).collect();
    let min = strips.iter().filter_map(|(_, dice)| dice.first()).map(|(dice, _)| *dice).fold(1.0, f64::min);
    // The axis begins at the multiple of 0.1 below the worst case.
    let first = ((min * 10.0).floor().clamp(0.0, 9.0)) as u32;
    let (from, span) = (f64::from(first) / 10.0, 1.0 - f64::from(first) / 10.0);
    let x = |dice: f64| LEFT + (dice - from) / span * (WIDTH - LEFT - RIGHT);
    let bottom = STRIP * strips.len() as f64;
    html! {
        figure {
            svg viewBox={ "0 0 " (WIDTH) " " (bottom + AXIS) } width=(WIDTH) role="img"
                aria-label="Dice of each case by label" {
                @for tenth in first..=10 {
                    @let dice = f64::from(tenth) / 10.0;
                    path d={ "M" (decimal(x(dice))) " 0V" (bottom) } stroke="currentColor" stroke-opacity=".15" {}
                    text x=(decimal(x(dice))) y=(bottom + 18.0) text-anchor="middle" { (decimal(dice)) }
                }
                @for (row, (structure, dice)) in strips.iter().enumerate() {
                    (strip(structure, dice, STRIP * (row as f64 + 0.5), &x))
                }
            }
        }
        p.note { "Each dot is a case; the lines are the quartiles, the thick one the median." }
    }
}

/// One strip around the height `middle`; `x` maps Dice to the horizontal axis.
fn strip(structure: &Structure, dice: &[(f64, String)], middle: f64, x: &impl Fn(f64) -> f64) -> Markup {
    let [r, g, b] = structure.color.0;
    let xs: Vec<f64> = dice.iter().map(|(dice, _)| x(*dice)).collect();
    html! {
        text x=(LEFT - 14.0) y=(decimal(middle + 4.0)) text-anchor="end" { (shortened(&structure.name)) }
        @for ((shift, cx), (dice, case)) in shifts(&xs).into_iter().zip(&xs).zip(dice) {
            circle cx=(decimal(*cx)) cy=(decimal(middle + shift)) r=(RADIUS) fill={ "rgb(" (r) "," (g) "," (b) ")" }
                fill-opacity=".8" stroke="currentColor" stroke-opacity=".5" stroke-width=".6" {
                title { (case) ": " (format_args!("{dice:.4}")) }
            }
        }
        @for (share, width) in [(0.25, 1.0), (0.5, 2.5), (0.75, 1.0)] {
            @if let Some(at) = quantile(dice, share) {
                path d={ "M" (decimal(x(at))) " " (decimal(middle - STRIP * 0.42)) "v" (decimal(STRIP * 0.84)) }
                    stroke="currentColor" stroke-width=(width) {}
            }
        }
    }
}

/// The defined Dice scores of a structure with their cases, in ascending order.
fn sorted_dice(summary: &Summary, structure: &Structure) -> Vec<(f64, String)> {
    let key = structure.key();
    let dice = |case: &CaseScores| Some((case.metrics.get(&key)?.Dice?, scores::name_of(case)));
    let mut found: Vec<(f64, String)> = summary.metric_per_case.iter().filter_map(dice).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found
}

fn shortened(name: &str) -> String {
    let mut shown: String = name.chars().take(MAX_NAME).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    shown
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

/// Vertical shift of each dot, for ascending positions along the axis.
fn shifts(positions: &[f64]) -> Vec<f64> {
    let step = 2.0 * RADIUS;
    let rows = ((STRIP / 2.0 - RADIUS) / step) as usize;
    // 0, 1, -1, 2, -2, …
    let row = |i: usize| i.div_ceil(2) as f64 * if i % 2 == 1 { step } else { -step };
    let mut last = vec![f64::NEG_INFINITY; 2 * rows + 1];
    let shift = |position: &f64| {
        let free = last.iter().position(|end| position - end >= step);
        // Without a free row, the dot overlaps as little as possible.
        let farthest = || last.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        let chosen = free.unwrap_or_else(farthest);
        last[chosen] = *position;
        row(chosen)
    };
    positions.iter().map(shift).collect()
}

/// A quantile, interpolated linearly between the sorted values.
fn quantile(sorted: &[(f64, String)], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let value = |index: f64| sorted.get(index as usize).map(|(value, _)| *value);
    let (low, high) = (value(at.floor())?, value(at.ceil())?);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_dots_move_apart_and_stay_in_their_strip() {
        let crowd = vec![100.0; 50];
        let moved = shifts(&crowd);
        assert_eq!(moved[..3], [0.0, 2.0 * RADIUS, -2.0 * RADIUS]);
        assert!(moved.iter().all(|shift| shift.abs() + RADIUS <= STRIP / 2.0));
        assert_eq!(shifts(&[0.0, 50.0, 100.0]), [0.0; 3]);
    }

    #[test]
    fn quartiles_are_interpolated_between_the_values() {
        let values: Vec<(f64, String)> = [0.0, 1.0, 2.0, 3.0].map(|v| (v, String::new())).into();
        assert_eq!([0.25, 0.5, 0.75].map(|share| quantile(&values, share)), [Some(0.75), Some(1.5), Some(2.25)]);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
