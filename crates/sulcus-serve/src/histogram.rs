//! Seconds, counted in Prometheus's way: how many took at most so long.

use std::fmt::Write;

/// Upper edges in seconds: from a small scan on a GPU to a whole body on a processor.
const EDGES: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    /// Of each edge those that it is the first to hold.
    counts: [u64; EDGES.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    pub(crate) fn add(&mut self, secs: f64) {
        if let Some(slot) = EDGES.iter().position(|edge| secs <= *edge).and_then(|i| self.counts.get_mut(i)) {
            *slot += 1;
        }
        self.count += 1;
        self.sum += secs;
    }

    /// Its lines; `label` such as `path="/healthz"`.
    pub(crate) fn write(&self, text: &mut String, name: &str, label: &str) {
        let mut below = 0;
        for (edge, count) in EDGES.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{{label},le=\"{edge}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{{{label}}} {}", self.sum);
        let _ = writeln!(text, "{name}_count{{{label}}} {}", self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        [0.001, 0.005, 0.3, 1000.0].into_iter().for_each(|secs| histogram.add(secs));
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\"");
        for line in [
            "x_bucket{a=\"b\",le=\"0.005\"} 2",
            "x_bucket{a=\"b\",le=\"0.25\"} 2",
            "x_bucket{a=\"b\",le=\"0.5\"} 3",
            "x_bucket{a=\"b\",le=\"300\"} 3",
            "x_bucket{a=\"b\",le=\"+Inf\"} 4",
            "x_sum{a=\"b\"} 1000.306",
            "x_count{a=\"b\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
