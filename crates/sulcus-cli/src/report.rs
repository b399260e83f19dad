//! A report in one HTML file that needs nothing else: no script, no font, no picture from outside.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sulcus_pipeline::Summary;
use sulcus_volume::LabelTable;

use crate::scores;
use crate::ui::count;

/// What a report shows.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// Lines below the heading: name and text.
    pub(crate) facts: Vec<(&'a str, String)>,
    /// The scores.
    pub(crate) summary: &'a Summary,
    /// Names of the labels in it.
    pub(crate) labels: &'a LabelTable,
    /// Cases that could not be scored, and why.
    pub(crate) failures: &'a [(String, String)],
    /// Pictures: caption and PNG file.
    pub(crate) figures: Vec<(String, Vec<u8>)>,
    /// Training curves, an SVG document.
    pub(crate) curves_svg: Option<String>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8886; --dim: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-width: 2px; } tfoot td { border-top: 2px solid var(--line); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1.2rem; } dt { color: var(--dim); } dd { margin: 0; }
.swatch { display: inline-block; width: .75em; height: .75em; border-radius: 2px; margin-right: .4em; }
.scroll { overflow-x: auto; } figure { margin: 1rem 0; } figcaption, .note { color: var(--dim); font-size: .9rem; }
img, svg { max-width: 100%; height: auto; } .big { font-size: 2.4rem; font-weight: 600; margin: 0; }
.failed { border-left: 4px solid #d5202b; padding-left: 1rem; }
";

/// The HTML document.
pub(crate) fn html(report: &Report<'_>) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str(&format!("<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n", escape(report.title)));
    page.push_str(&format!("<h1>{}</h1>\n", escape(report.title)));
    let mean = report.summary.foreground_mean;
    page.push_str(&format!("<p class=\"big\">{}</p>\n", scores::score(mean.Dice)));
    page.push_str(&format!(
        "<p class=\"note\">mean Dice over {} and {}{}</p>\n",
        count(report.labels.entries().len(), "label"),
        count(report.summary.metric_per_case.len(), "case"),
        if mean.undefined > 0 {
            format!("; {} pairs of case and label left out, as both masks are empty there", mean.undefined)
        } else {
            String::new()
        }
    ));
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
    page.push_str(&score_table(report));
    for (caption, png) in &report.figures {
        page.push_str(&format!(
            "<h2>{0}</h2>\n<figure class=\"scroll\"><img alt=\"{0}\" src=\"data:image/png;base64,{1}\"></figure>\n",
            escape(caption),
            STANDARD.encode(png)
        ));
    }
    if let Some(svg) = &report.curves_svg {
        let start = svg.find("<svg").unwrap_or(0);
        page.push_str(&format!("<h2>Training</h2>\n<figure>{}</figure>\n", svg.get(start..).unwrap_or_default()));
    }
    page.push_str(&format!("<p class=\"note\">sulcus {}</p>\n</body>\n</html>\n", env!("CARGO_PKG_VERSION")));
    page
}

/// Worst cases first: they are the ones to look at.
fn score_table(report: &Report<'_>) -> String {
    let rows = scores::table(report.summary, report.labels, &scores::worst_first(report.summary));
    let cases = report.summary.metric_per_case.len();
    let line = |row: &[String], tag: &str| {
        let cells: String = row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let mut html = String::from("<h2>Scores, worst case first</h2>\n<p>");
    for entry in report.labels.entries() {
        let [r, g, b] = entry.color.0;
        html.push_str(&format!(
            "<span class=\"swatch\" style=\"background:rgb({r},{g},{b})\"></span>{} &nbsp; ",
            escape(&entry.name)
        ));
    }
    html.push_str("</p>\n<div class=\"scroll\"><table>\n<thead>\n");
    for (index, row) in rows.iter().enumerate() {
        match index {
            0 => html.push_str(&format!("{}</thead>\n<tbody>\n", line(row, "th"))),
            _ if index == cases + 1 => html.push_str(&format!("</tbody>\n<tfoot>\n{}", line(row, "td"))),
            _ => html.push_str(&line(row, "td")),
        }
    }
    html.push_str("</tfoot>\n</table></div>\n");
    html
}

/// Names come from files: nothing in them may become markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use sulcus_pipeline::{CaseScores, Counts};

    use super::*;

    #[test]
    fn worst_cases_come_first_and_names_stay_text() {
        let case = |name: &str, tp| {
            let counts = [Counts { tp, fp: 1, fn_: 1, tn: 9 }];
            CaseScores::new(format!("p/{name}.nii"), format!("t/{name}.nii"), &[1], &counts)
        };
        let summary = Summary::new(vec![case("good", 90), case("<script>bad", 3), case("fair", 9)]);
        let labels = crate::label_file::named_where_known([1], None);
        let report = Report {
            title: "A & B",
            facts: vec![("engine", "tract".into())],
            summary: &summary,
            labels: &labels,
            failures: &[("gone".to_owned(), "no prediction".to_owned())],
            figures: vec![("worst".into(), vec![1, 2, 3])],
            curves_svg: Some("<?xml version=\"1.0\"?><svg></svg>".into()),
        };
        let page = html(&report);
        let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part} is missing"));
        assert!(at("&lt;script&gt;bad") < at("fair") && at("fair") < at("good"));
        assert!(at("<tfoot>") > at("good") && page.contains("data:image/png;base64,AQID"));
        assert!(page.contains("A &amp; B") && !page.contains("<script>") && !page.contains("<?xml"));
        assert!(page.contains("<b>gone</b>: no prediction"));
    }
}
