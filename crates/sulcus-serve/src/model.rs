//! What `GET /v1/model` says.

use serde::Serialize;
use sulcus_model::{ChannelSpec, ModelSpec, Region, SpacingRule, Training};
use sulcus_runtime::Segmenter;
use sulcus_volume::LabelTable;

/// What runs, on what, and what it may use.
#[derive(Serialize)]
struct Page<'a> {
    version: &'static str,
    engine: String,
    device: String,
    /// Several are averaged.
    models: Vec<Model<'a>>,
    limits: Limits,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    network: &'a str,
    dimensions: usize,
    precision: &'static str,
    channels: &'a [ChannelSpec],
    labels: &'a LabelTable,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    regions: &'a [Region],
    orientation: String,
    spacing: &'a SpacingRule,
    patch: &'a [usize],
    training: &'a Training,
}

/// What a client has to keep to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Limits {
    pub(crate) max_body_bytes: u64,
    pub(crate) queue: usize,
    pub(crate) workers: usize,
    pub(crate) timeout_secs: f64,
}

/// The page as JSON; it stays the same for as long as the server runs.
pub(crate) fn page(segmenter: &Segmenter, limits: Limits) -> Vec<u8> {
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        engine: segmenter.engine().to_string(),
        device: segmenter.device().to_string(),
        models: segmenter.specs().map(Model::of).collect(),
        limits,
    };
    serde_json::to_vec(&page).unwrap_or_default()
}

impl<'a> Model<'a> {
    fn of(spec: &'a ModelSpec) -> Self {
        Self {
            name: &spec.name,
            network: &spec.network.name,
            dimensions: spec.network.dimensions.count(),
            precision: spec.precision().name(),
            channels: &spec.channels,
            labels: &spec.labels,
            regions: &spec.regions,
            orientation: spec.orientation.to_string(),
            spacing: &spec.spacing,
            patch: &spec.patch,
            training: &spec.training,
        }
    }
}
