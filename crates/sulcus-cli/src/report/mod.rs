//! A report in one HTML file that needs nothing else: no script, no font, no picture from outside.

mod pictures;
mod plot;
mod run;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sulcus_metrics::Summary;
use sulcus_model::Structure;

pub(crate) use pictures::worst_and_median;
pub(crate) use run::{of_run, write_run};

use crate::scores;
use crate::ui::count;

/// What a report shows.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// Lines below the heading: name and text.
    pub(crate) facts: Vec<(&'a str, String)>,
    /// The scores; without them nothing was held out.
    pub(crate) summary: Option<&'a Summary>,
    /// What is scored in it.
    pub(crate) structures: Vec<Structure>,
    /// Cases that could not be scored, and why.
    pub(crate) failures: &'a [(String, String)],
    /// The worst case, the median one.
    pub(crate) pictures: Vec<Picture>,
    /// Training curves, an SVG document.
    pub(crate) curves_svg: Option<String>,
    /// Why the model is as it is, a sentence each.
    pub(crate) reasons: Vec<String>,
    /// Long texts that open on demand: name and text.
    pub(crate) details: Vec<(&'a str, String)>,
}

/// A picture in a report.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Above it.
    pub(crate) caption: String,
    /// The PNG file.
    pub(crate) png: Vec<u8>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8886; --dim: light-dark(#666, #9a9a9a); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-width: 2px; } tbody tr.all td { border-top: 2px solid var(--line); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1.2rem; } dt { color: var(--dim); }
dd { margin: 0; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin-right: .4em; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; } .note { color: var(--dim); font-size: .9rem; max-width: 60rem; }
img, svg { max-width: 100%; height: auto; } svg { font: 12px system-ui, sans-serif; fill: currentColor; }
.big { display: flex; flex-wrap: wrap; gap: .5rem 3rem; margin: 0; } .big span { color: var(--dim); }
.big b { display: block; font-size: 2.4rem; line-height: 1.2; }
.curves img { width: 760px; }
.failed { border-left: 4px solid #d5202b; padding-left: 1rem; }
pre { overflow-x: auto; font-size: .85rem; } summary { cursor: pointer; }
@media print {
  body { font-size: 10px; max-width: none; margin: 0; } h2 { break-after: avoid; }
  tr, figure, svg { break-inside: avoid; } thead { display: table-header-group; } .scroll { overflow: visible; }
  details { display: none; } th, td { padding: .15rem .4rem; white-space: normal; } .swatch { print-color-adjust: exact; }
}
";

/// The HTML document.
pub(crate) fn html(report: &Report<'_>) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str(&format!("<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n", escape(report.title)));
    page.push_str(&format!("<h1>{}</h1>\n", escape(report.title)));
    if let Some(summary) = report.summary {
        page.push_str(&headline(summary, &report.structures));
    }
    if !report.facts.is_empty() {
        let lines: String = report
            .facts
            .iter()
            .map(|(name, text)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(text)))
            .collect();
        page.push_str(&format!("<dl>\n{lines}</dl>\n"));
    }
    if !report.failures.is_empty() {
        let lines: String = report
            .failures
            .iter()
            .map(|(case, why)| format!("<li><b>{}</b>: {}</li>\n", escape(case), escape(why)))
            .collect();
        page.push_str(&format!("<div class=\"failed\"><h2>Not scored</h2>\n<ul>\n{lines}</ul></div>\n"));
    }
    if let Some(svg) = &report.curves_svg {
        // A picture's markup can do nothing to the page around it.
        page.push_str(&format!(
            "<h2>Training</h2>\n<figure class=\"curves\"><img alt=\"Loss and Dice by epoch\" src=\"data:image/svg+xml;base64,{}\"></figure>\n",
            STANDARD.encode(svg)
        ));
    }
    if let Some(summary) = report.summary {
        page.push_str(&scored(summary, &report.structures));
    }
    for Picture { caption, png } in &report.pictures {
        page.push_str(&format!(
            "<h2>{0}</h2>\n<figure class=\"scroll\"><img alt=\"{0}\" src=\"data:image/png;base64,{1}\"></figure>\n",
            escape(caption),
            STANDARD.encode(png)
        ));
    }
    if let Some(summary) = report.summary {
        let cases = scores::every_label(summary, &report.structures);
        page.push_str(&format!("<h2>Cases, worst first</h2>\n{}", table(&cases, cases.len())));
    }
    if !report.reasons.is_empty() {
        let lines: String = report.reasons.iter().map(|why| format!("<li>{}</li>\n", escape(why))).collect();
        page.push_str(&format!("<h2>Plan</h2>\n<ul>\n{lines}</ul>\n"));
    }
    for (name, text) in &report.details {
        page.push_str(&format!(
            "<details><summary>{}</summary><pre>{}</pre></details>\n",
            escape(name),
            escape(text)
        ));
    }
    page.push_str(&format!("<p class=\"note\">sulcus {}</p>\n</body>\n</html>\n", env!("CARGO_PKG_VERSION")));
    page
}

/// The means that people ask for first, and over what they are taken.
fn headline(summary: &Summary, structures: &[Structure]) -> String {
    let mean = summary.foreground_mean;
    let mut figures = vec![(scores::score(mean.Dice), "mean Dice".to_owned())];
    if let Some(mm) = summary.nsd_mm {
        let infinite =
            if mean.HD95_infinite > 0 { format!(" ({} infinite)", mean.HD95_infinite) } else { String::new() };
        figures.push((scores::millimetres(mean.HD95), format!("mean HD95 in mm{infinite}")));
        figures.push((scores::score(mean.NSD), format!("mean NSD at {mm} mm")));
    }
    let figures: String =
        figures.iter().map(|(value, name)| format!("<div><b>{value}</b><span>{name}</span></div>")).collect();
    let pairs: usize = summary.mean.values().map(|label| label.undefined).sum();
    let undefined = if pairs > 0 {
        format!("; {} left out, as both masks are empty there", count(pairs, "pair") + " of case and label")
    } else {
        String::new()
    };
    format!(
        "<div class=\"big\">{figures}</div>\n<p class=\"note\">over {} and {}{undefined}</p>\n",
        count(structures.len(), if structures.iter().any(|s| s.values.len() > 1) { "region" } else { "label" }),
        count(summary.metric_per_case.len(), "case"),
    )
}

/// Means and the distribution behind them.
fn scored(summary: &Summary, structures: &[Structure]) -> String {
    let mut html = String::from("<h2>Scores</h2>\n");
    html.push_str(&table(&scores::means(summary, structures), structures.len() + 1));
    html.push_str(
        "<p class=\"note\">Dice and IoU compare voxels. HD95 is the 95th percentile of the distances between the surfaces, \
         NSD the share of the surfaces that lie within the tolerance of each other, both weighted by surface area. A \
         missed structure has Dice and NSD 0 and an infinite HD95; infinite ones are counted and left out of the mean. \
         A score is undefined where both masks are empty. The volume error is the mean size of prediction less \
         truth.</p>\n",
    );
    html.push_str("<h2>Distribution of Dice</h2>\n");
    html.push_str(&plot::strips(summary, structures));
    html
}

/// Rows to markup: the first is the header, those from `totals` on stand out.
fn table(rows: &[Vec<String>], totals: usize) -> String {
    let line = |row: &[String], tag: &str, class: &str| {
        let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr{class}>{cells}</tr>\n")
    };
    let mut html = String::from("<div class=\"scroll\"><table>\n<thead>\n");
    for (index, row) in rows.iter().enumerate() {
        match index {
            0 => html.push_str(&format!("{}</thead>\n<tbody>\n", line(row, "th", ""))),
            _ if index >= totals => html.push_str(&line(row, "td", " class=\"all\"")),
            _ => html.push_str(&line(row, "td", "")),
        }
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

/// Names come from files: nothing in them may become markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use sulcus_metrics::{CaseScores, Counts, LabelScores};

    use super::*;

    fn case(name: &str, tp: u64) -> CaseScores {
        let counts = Counts { tp, fp: 1, fn_: 1, tn: 9 };
        CaseScores {
            prediction_file: format!("p/{name}.nii"),
            reference_file: format!("t/{name}.nii"),
            metrics: [("1".to_owned(), LabelScores { HD95: Some(1.5), NSD: Some(0.5), ..counts.into() })].into(),
        }
    }

    #[test]
    fn worst_cases_come_first_and_names_stay_text() {
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
        let page = html(&report);
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
    fn without_scores_the_rest_is_shown() {
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
        let page = html(&report);
        assert!(page.contains("<li>because</li>") && !page.contains("Dice"));
    }
}
