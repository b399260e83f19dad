//! A report as one HTML file that loads nothing: no script, no font, no external picture.
//!
//! The templates escape all text, so that no name from a file becomes markup.

mod figures;
mod plot;
mod run;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sulcus_metrics::Summary;
use sulcus_model::Structure;

pub(crate) use figures::worst_and_median;
pub(crate) use run::{of_run, write_run};

use crate::output::count;
use crate::scores;

/// The content of a report.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// Names and values below the heading.
    pub(crate) facts: Vec<(&'a str, String)>,
    /// The scores, unless no case was held out.
    pub(crate) summary: Option<&'a Summary>,
    /// The structures that are scored.
    pub(crate) structures: Vec<Structure>,
    /// Cases that could not be scored, with the reason.
    pub(crate) failures: &'a [(String, String)],
    /// Figures, such as those of the worst and the median case.
    pub(crate) pictures: Vec<Picture>,
    /// Training curves, an SVG document.
    pub(crate) curves_svg: Option<String>,
    /// The reasons behind the plan, one sentence each.
    pub(crate) reasons: Vec<String>,
    /// Names and long texts that are folded.
    pub(crate) details: Vec<(&'a str, String)>,
}

/// A picture in a report.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The heading above the picture.
    pub(crate) caption: String,
    /// The PNG file.
    pub(crate) png: Vec<u8>,
}

const STYLE: &str = include_str!("style.css");

/// The HTML document of a report.
pub(crate) fn document(report: &Report<'_>) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body(report)) }
        }
    }
    .into_string()
}

fn body(report: &Report<'_>) -> Markup {
    html! {
        h1 { (report.title) }
        @if let Some(summary) = report.summary {
            (headline(summary, &report.structures))
        }
        @if !report.facts.is_empty() {
            dl {
                @for (name, text) in &report.facts { dt { (name) } dd { (text) } }
            }
        }
        @if !report.failures.is_empty() {
            div.failed {
                h2 { "Not scored" }
                ul {
                    @for (case, why) in report.failures { li { b { (case) } ": " (why) } }
                }
            }
        }
        @if let Some(svg) = &report.curves_svg {
            h2 { "Training" }
            // The document is embedded as a picture, so that markup in it has no effect on the page.
            figure.curves { img alt="Loss and Dice by epoch" src=(data_url("image/svg+xml", svg.as_bytes())); }
        }
        @if let Some(summary) = report.summary {
            (scored(summary, &report.structures))
        }
        @for Picture { caption, png } in &report.pictures {
            h2 { (caption) }
            figure.scroll { img alt=(caption) src=(data_url("image/png", png)); }
        }
        @if let Some(summary) = report.summary {
            h2 { "Cases, worst first" }
            (table(&scores::every_label(summary, &report.structures), usize::MAX))
        }
        @if !report.reasons.is_empty() {
            h2 { "Plan" }
            ul {
                @for why in &report.reasons { li { (why) } }
            }
        }
        @for (name, text) in &report.details {
            details { summary { (name) } pre { (text) } }
        }
        p.note { "sulcus " (env!("CARGO_PKG_VERSION")) }
    }
}

fn data_url(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes))
}

/// The mean scores, and the number of cases and structures behind them.
fn headline(summary: &Summary, structures: &[Structure]) -> Markup {
    let mean = summary.foreground_mean;
    let mut figures = vec![(scores::score(mean.Dice), "mean Dice".to_owned())];
    if let Some(distance) = summary.nsd_mm {
        let unit = scores::distance_unit(summary);
        let infinite =
            if mean.HD95_infinite > 0 { format!(" ({} infinite)", mean.HD95_infinite) } else { String::new() };
        figures.push((scores::millimetres(mean.HD95), format!("mean HD95 in {unit}{infinite}")));
        figures.push((scores::score(mean.NSD), format!("mean NSD at {distance} {unit}")));
    }
    let undefined: usize = summary.mean.values().map(|label| label.undefined).sum();
    let noun = if structures.iter().any(|s| s.values.len() > 1) { "region" } else { "label" };
    html! {
        div.big {
            @for (value, name) in &figures { div { b { (value) } span { (name) } } }
        }
        p.note {
            "over " (count(structures.len(), noun)) " and " (count(summary.metric_per_case.len(), "case"))
            @if undefined > 0 {
                "; " (count(undefined, "pair")) " of case and label left out, as both masks are empty there"
            }
        }
    }
}

/// The means and the distribution behind them.
fn scored(summary: &Summary, structures: &[Structure]) -> Markup {
    html! {
        h2 { "Scores" }
        (table(&scores::means(summary, structures), structures.len() + 1))
        p.note {
            "Dice and IoU compare voxels. HD95 is the 95th percentile of the distances between the surfaces, NSD the share of \
             the surfaces that lie within the tolerance of each other, both weighted by surface area. A missed structure has \
             Dice and NSD 0 and an infinite HD95; infinite values are counted and left out of the mean. A score is undefined \
             where both masks are empty. The volume error is the mean absolute difference between the volumes of prediction \
             and truth."
        }
        h2 { "Distribution of Dice" }
        (plot::strips(summary, structures))
    }
}

/// A table whose first row is the header; rows from `totals` on are emphasised.
fn table(rows: &[Vec<String>], totals: usize) -> Markup {
    html! {
        div.scroll {
            table {
                @if let Some(header) = rows.first() {
                    thead {
                        tr { @for cell in header { th { (cell) } } }
                    }
                }
                tbody {
                    @for (index, row) in rows.iter().enumerate().skip(1) {
                        tr.all[index >= totals] { @for cell in row { td { (cell) } } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sulcus_metrics::{CaseScores, Counts, LabelScores};
    use sulcus_volume::GridUnit;

    use super::*;

    fn case(name: &str, tp: u64) -> CaseScores {
        let counts = Counts { tp, fp: 1, fn_: 1, tn: 9 };
        CaseScores {
            prediction_file: format!("p/{name}.nii"),
            reference_file: format!("t/{name}.nii"),
            unit: GridUnit::Millimetre,
            metrics: [("1".to_owned(), LabelScores { HD95: Some(1.5), NSD: Some(0.5), ..counts.into() })].into(),
        }
    }

    #[test]
    fn worst_cases_come_first_and_hostile_names_stay_text() {
        let summary = Summary::new(vec![case("good", 90), case("<script>bad", 3), case("fair", 9)], 1.0);
        let structures = vec![Structure { name: "<script>'x'".to_owned(), ..Structure::label(1) }];
        let hostile = "<script>".to_owned();
        let report = Report {
            title: "A & B",
            facts: vec![("engine", hostile.clone())],
            summary: Some(&summary),
            structures,
            failures: &[("gone".to_owned(), "no prediction".to_owned())],
            pictures: vec![Picture { caption: hostile.clone(), png: vec![1, 2, 3] }],
            curves_svg: Some("<?xml version=\"1.0\"?><svg><script></script></svg>".into()),
            reasons: vec![hostile.clone()],
            details: vec![("plan", hostile)],
        };
        let page = document(&report);
        let (_, cases) = page.split_once("<h2>Cases, worst first</h2>").unwrap();
        let at = |part: &str| cases.find(part).unwrap_or_else(|| panic!("{part} is missing"));
        assert!(at("&lt;script&gt;bad") < at("fair") && at("fair") < at("good"));
        assert!(page.contains("data:image/png;base64,AQID") && page.contains("data:image/svg+xml;base64,"));
        assert!(page.contains("A &amp; B") && !page.contains("<script>") && !page.contains("<?xml"));
        assert!(page.contains("<b>gone</b>: no prediction") && page.contains("mean NSD at 1 mm"));
        // Nothing is fetched when the page is opened.
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url("));
    }

    #[test]
    fn report_without_scores_shows_the_rest() {
        let report = Report {
            title: "Run",
            facts: Vec::new(),
            summary: None,
            structures: Vec::new(),
            failures: &[],
            pictures: Vec::new(),
            curves_svg: None,
            reasons: vec!["because".to_owned()],
            details: Vec::new(),
        };
        let page = document(&report);
        assert!(page.contains("<li>because</li>") && !page.contains("Dice"));
    }
}
