//! Scores of all cases at a glance.

use sulcus_metrics::Summary;
use sulcus_model::Structure;

use super::escape;
use crate::scores;

const WIDTH: f64 = 760.0;
/// Room for the names of the labels.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 20.0;
const STRIP: f64 = 58.0;
const AXIS: f64 = 26.0;
const RADIUS: f64 = 3.5;
/// Characters of a label's name that fit beside its strip.
const NAME: usize = 20;

/// A strip a label with a dot a case along an axis of Dice, and lines at the quartiles. Dots that would hide each other
/// move up and down.
pub(super) fn strips(summary: &Summary, structures: &[Structure]) -> String {
    let of_structure = |structure: &Structure| -> Vec<(f64, String)> {
        let key = structure.key();
        let dice =
            |case: &sulcus_metrics::CaseScores| Some((case.metrics.get(&key)?.Dice?, scores::name_of(case)));
        let mut found: Vec<(f64, String)> = summary.metric_per_case.iter().filter_map(dice).collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found
    };
    let strips: Vec<_> = structures.iter().map(|structure| (structure, of_structure(structure))).collect();
    let least = strips.iter().filter_map(|(_, dice)| dice.first()).map(|(dice, _)| *dice).fold(1.0, f64::min);
    // In tenths: the axis begins at the one below the worst case.
    let first = ((least * 10.0).floor().clamp(0.0, 9.0)) as u32;
    let (from, span) = (f64::from(first) / 10.0, 1.0 - f64::from(first) / 10.0);
    let x = |dice: f64| LEFT + (dice - from) / span * (WIDTH - LEFT - RIGHT);
    let bottom = STRIP * strips.len() as f64;
    let mut svg = format!(
        "<figure><svg viewBox=\"0 0 {WIDTH} {}\" width=\"{WIDTH}\" role=\"img\" aria-label=\"Dice of each case by label\">\n",
        bottom + AXIS
    );
    for tenth in first..=10 {
        let dice = f64::from(tenth) / 10.0;
        svg.push_str(&format!(
            "<path d=\"M{0:.1} 0V{bottom}\" stroke=\"currentColor\" stroke-opacity=\".15\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{dice:.1}</text>\n",
            x(dice),
            bottom + 18.0
        ));
    }
    for (row, (entry, dice)) in strips.iter().enumerate() {
        let middle = STRIP * (row as f64 + 0.5);
        let mut name: String = entry.name.chars().take(NAME).collect();
        if name.len() < entry.name.len() {
            name.push('…');
        }
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 14.0,
            middle + 4.0,
            escape(&name)
        ));
        let [r, g, b] = entry.color.0;
        let xs: Vec<f64> = dice.iter().map(|(dice, _)| x(*dice)).collect();
        for ((shift, cx), (dice, case)) in shifts(&xs).into_iter().zip(&xs).zip(dice) {
            svg.push_str(&format!(
                "<circle cx=\"{cx:.1}\" cy=\"{:.1}\" r=\"{RADIUS}\" fill=\"rgb({r},{g},{b})\" fill-opacity=\".8\" \
                 stroke=\"currentColor\" stroke-opacity=\".5\" stroke-width=\".6\"><title>{}: {dice:.4}</title></circle>\n",
                middle + shift,
                escape(case)
            ));
        }
        for (share, width) in [(0.25, 1.0), (0.5, 2.5), (0.75, 1.0)] {
            if let Some(at) = quantile(dice, share) {
                svg.push_str(&format!(
                    "<path d=\"M{:.1} {:.1}v{}\" stroke=\"currentColor\" stroke-width=\"{width}\"/>\n",
                    x(at),
                    middle - STRIP * 0.42,
                    STRIP * 0.84
                ));
            }
        }
    }
    svg.push_str("</svg></figure>\n<p class=\"note\">A dot is a case; the lines are the quartiles, the thick one the median.</p>\n");
    svg
}

/// How far each dot moves off the middle, for rising places along the axis.
fn shifts(places: &[f64]) -> Vec<f64> {
    let step = 2.0 * RADIUS;
    let rows = ((STRIP / 2.0 - RADIUS) / step) as usize;
    // 0, 1, -1, 2, -2, …
    let row = |i: usize| i.div_ceil(2) as f64 * if i % 2 == 1 { step } else { -step };
    let mut last = vec![f64::NEG_INFINITY; 2 * rows + 1];
    let shift = |place: &f64| {
        let free = last.iter().position(|end| place - end >= step);
        // Where all rows are taken, the dot goes where it hides the least.
        let longest_ago = || last.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        let chosen = free.unwrap_or_else(longest_ago);
        last[chosen] = *place;
        row(chosen)
    };
    places.iter().map(shift).collect()
}

/// Linear between the sorted values.
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
    fn dots_that_would_hide_each_other_move_apart_and_stay_in_their_strip() {
        let crowd = vec![100.0; 50];
        let moved = shifts(&crowd);
        assert_eq!(moved[..3], [0.0, 2.0 * RADIUS, -2.0 * RADIUS]);
        assert!(moved.iter().all(|shift| shift.abs() + RADIUS <= STRIP / 2.0));
        assert_eq!(shifts(&[0.0, 50.0, 100.0]), [0.0; 3]);
    }

    #[test]
    fn quartiles_lie_between_the_values() {
        let values: Vec<(f64, String)> = [0.0, 1.0, 2.0, 3.0].map(|v| (v, String::new())).into();
        assert_eq!([0.25, 0.5, 0.75].map(|share| quantile(&values, share)), [Some(0.75), Some(1.5), Some(2.25)]);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
