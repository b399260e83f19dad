//! The JSON of `GET /v1/model` and `GET /v1/openapi.json`. Both stay the same while the server runs.

use serde::Serialize;
use serde_json::{Value, json};
use sulcus_model::{ChannelSpec, ModelSpec, Region, SpacingRule, Training};
use sulcus_runtime::Segmenter;
use sulcus_volume::LabelTable;

const OPENAPI: &str = include_str!("openapi.json");

/// What `GET /v1/model` returns.
#[derive(Serialize)]
struct ServiceDescription<'a> {
    version: &'static str,
    engine: String,
    device: String,
    /// Several models are averaged; those of a pack segment a scan together.
    models: Vec<ModelDescription<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<PackDescription<'a>>,
    limits: ClientLimits,
}

#[derive(Serialize)]
struct PackDescription<'a> {
    name: &'a str,
    labels: &'a LabelTable,
}

#[derive(Serialize)]
struct ModelDescription<'a> {
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

/// The limits that a client must keep to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ClientLimits {
    pub(crate) max_body_bytes: u64,
    pub(crate) queue: usize,
    pub(crate) workers: usize,
    pub(crate) timeout_secs: f64,
    /// Of the server's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_memory_bytes: Option<u64>,
}

/// The body of `GET /v1/model`.
pub(crate) fn model_json(segmenter: &Segmenter, limits: ClientLimits) -> Vec<u8> {
    let description = ServiceDescription {
        version: env!("CARGO_PKG_VERSION"),
        engine: segmenter.engine().to_string(),
        device: segmenter.device().to_string(),
        models: segmenter.specs().map(ModelDescription::of).collect(),
        pack: segmenter.pack().map(|pack| PackDescription { name: &pack.name, labels: &pack.labels }),
        limits,
    };
    serde_json::to_vec(&description).unwrap_or_default()
}

impl<'a> ModelDescription<'a> {
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

/// The body of `GET /v1/openapi.json`: the description beside this file, with the settings of this server.
pub(crate) fn openapi_json(token_required: bool, max_body_bytes: u64) -> Vec<u8> {
    let Ok(mut page) = serde_json::from_str::<Value>(OPENAPI) else { return Vec::new() };
    let mut replace = |pointer: &str, value: Value| {
        if let Some(place) = page.pointer_mut(pointer) {
            *place = value;
        }
    };
    replace("/info/version", json!(env!("CARGO_PKG_VERSION")));
    replace("/security", if token_required { json!([{"token": []}]) } else { json!([]) });
    for media_type in
        ["application~1gzip", "application~1octet-stream", "image~1png", "image~1jpeg", "image~1tiff"]
    {
        let pointer = format!("/paths/~1v1~1segment/post/requestBody/content/{media_type}/schema/maxLength");
        replace(&pointer, json!(max_body_bytes));
    }
    serde_json::to_vec(&page).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::PATHS;

    #[test]
    fn openapi_describes_exactly_the_routes() {
        let page: Value = serde_json::from_slice(&openapi_json(true, 77)).unwrap();
        let described: Vec<&str> = page["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(described, PATHS);
        assert_eq!(page["security"], json!([{"token": []}]));
        assert_eq!(page["info"]["version"], env!("CARGO_PKG_VERSION"));
        let max_length = "/paths/~1v1~1segment/post/requestBody/content/application~1gzip/schema/maxLength";
        assert_eq!(page.pointer(max_length), Some(&json!(77)));
    }
}
