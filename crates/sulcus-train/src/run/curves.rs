use std::fmt::Write;
use std::path::Path;

use super::files::write_atomically;
use super::history::{self, EpochRecord};
use crate::error::TrainError;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Left, top, right, bottom.
const MARGINS: [f64; 4] = [56.0, 40.0, 56.0, 44.0];
const LOSS: &str = "#0072b2";
const DICE: &str = "#d55e00";

/// Draws `curves.svg` of a run from its history.
pub(crate) fn write(folder: &Path) -> Result<(), TrainError> {
    let records = history::read_history(&folder.join(history::FILE))?;
    write_atomically(&folder.join("curves.svg"), svg(&records).as_bytes())
}

/// Loss (left axis) and mean Dice (right axis, 0 to 1) against epochs.
fn svg(records: &[EpochRecord]) -> String {
    let [left, top, right, bottom] = MARGINS;
    let (x1, y1) = (WIDTH - right, HEIGHT - bottom);
    let last = records.iter().map(|r| r.epoch).max().unwrap_or(1).max(2) as f64;
    let x = |epoch: f64| left + (epoch - 1.0) / (last - 1.0) * (x1 - left);
    let max_loss = nice(records.iter().map(|r| r.loss).fold(0.0, f64::max));
    let y = |share: f64| y1 - share.clamp(0.0, 1.0) * (y1 - top);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<title>Training loss and validation Dice by epoch</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for tick in 0..=5 {
        let share = f64::from(tick) / 5.0;
        let at = y(share);
        let _ = writeln!(out, "<path d=\"M{left} {at:.1}H{x1}\" stroke=\"#ddd\"/>");
        let loss = max_loss * share;
        let _ = writeln!(out, "{}", text(left - 8.0, at + 4.0, "end", LOSS, &format!("{loss:.2}")));
        let _ = writeln!(out, "{}", text(x1 + 8.0, at + 4.0, "start", DICE, &format!("{share:.1}")));
    }
    let step = nice(last / 8.0).max(1.0).round();
    let mut epoch = 1.0;
    while epoch <= last {
        let _ = writeln!(out, "{}", text(x(epoch), y1 + 18.0, "middle", "#333", &format!("{epoch}")));
        epoch = if epoch == 1.0 && step > 1.0 { step } else { epoch + step };
    }
    let _ = writeln!(out, "<path d=\"M{left} {top}V{y1}H{x1}V{top}\" fill=\"none\" stroke=\"#333\"/>");
    let _ = writeln!(out, "{}", text((left + x1) / 2.0, HEIGHT - 8.0, "middle", "#333", "epoch"));
    let line = |points: Vec<(f64, f64)>, color: &str| {
        let points: Vec<String> = points.into_iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dots: String = if let [only] = points.as_slice() {
            let (cx, cy) = only.split_once(',').unwrap_or_default();
            format!("<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{color}\"/>\n")
        } else {
            String::new()
        };
        format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\n{dots}",
            points.join(" ")
        )
    };
    out += &line(records.iter().map(|r| (x(r.epoch as f64), y(r.loss / max_loss))).collect(), LOSS);
    let dice = |r: &EpochRecord| r.mean_dice.map(|d| (x(r.epoch as f64), y(d)));
    out += &line(records.iter().filter_map(dice).collect(), DICE);
    let best = records.iter().rfind(|r| r.best && r.mean_dice.is_some());
    let mut legend = vec![(LOSS, "training loss (left)".to_owned())];
    if let Some((best, (cx, cy))) = best.and_then(|r| dice(r).map(|p| (r, p))) {
        let _ = writeln!(out, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"{DICE}\"/>");
        let value = best.mean_dice.unwrap_or_default();
        legend.push((DICE, format!("validation Dice (right), best {value:.3} in epoch {}", best.epoch)));
    }
    let mut at = left;
    for (color, words) in legend {
        let _ = writeln!(out, "<path d=\"M{at} 20h20\" stroke=\"{color}\" stroke-width=\"2\"/>");
        let _ = writeln!(out, "{}", text(at + 26.0, 24.0, "start", "#333", &words));
        at += 190.0;
    }
    out + "</svg>\n"
}

fn text(x: f64, y: f64, anchor: &str, color: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\">{words}</text>")
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn nice(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|s| s * power).find(|s| *s >= value * 0.999_999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize, loss: f64, mean_dice: Option<f64>) -> EpochRecord {
        EpochRecord {
            epoch,
            steps: epoch,
            loss,
            dice: Default::default(),
            mean_dice,
            best: true,
            learning_rate: 0.1,
            seconds: 1.0,
            waited_seconds: 0.0,
            elapsed_seconds: 1.0,
        }
    }

    #[test]
    fn curves_lie_inside_the_axes() {
        let svg = svg(&[record(1, 1.7, Some(0.2)), record(2, 0.9, Some(0.6)), record(3, 0.5, Some(0.8))]);
        let lines: Vec<&str> = svg.lines().filter(|l| l.starts_with("<polyline")).collect();
        assert_eq!(lines.len(), 2);
        // Loss 1.7 of 2 on an axis from y = 316 up to 40; Dice 0.8 of 1.
        assert!(lines[0].contains("56.0,81.4"), "{}", lines[0]);
        assert!(lines[1].contains("664.0,95.2"), "{}", lines[1]);
        assert!(svg.contains("best 0.800 in epoch 3"));
    }

    #[test]
    fn histories_of_zero_and_one_epoch_are_drawn() {
        assert!(svg(&[]).ends_with("</svg>\n"));
        let one = svg(&[record(1, f64::INFINITY, None)]);
        assert!(!one.contains("inf") && !one.contains("NaN"), "{one}");
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!([0.3, 1.0, 1.1, 4.0, 7.0, 30.0].map(nice), [0.5, 1.0, 2.0, 5.0, 10.0, 50.0]);
    }
}
