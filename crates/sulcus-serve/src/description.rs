//! What `GET /v1/openapi.json` says: the description beside this file, with what this server was started with.

use serde_json::{Value, json};

const DESCRIPTION: &str = include_str!("openapi.json");

/// The description of a server that asks for a token or does not.
pub(crate) fn page(asks_for_token: bool, max_body: u64) -> Vec<u8> {
    let Ok(mut page) = serde_json::from_str::<Value>(DESCRIPTION) else { return Vec::new() };
    let mut put = |pointer: &str, value: Value| {
        if let Some(place) = page.pointer_mut(pointer) {
            *place = value;
        }
    };
    put("/info/version", json!(env!("CARGO_PKG_VERSION")));
    put("/security", if asks_for_token { json!([{"token": []}]) } else { json!([]) });
    for kind in ["application~1gzip", "application~1octet-stream"] {
        put(&format!("/paths/~1v1~1segment/post/requestBody/content/{kind}/schema/maxLength"), json!(max_body));
    }
    serde_json::to_vec(&page).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::PATHS;

    #[test]
    fn every_path_is_described_and_no_other() {
        let page: Value = serde_json::from_slice(&page(true, 77)).unwrap();
        let described: Vec<&str> = page["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(described, PATHS);
        assert_eq!(page["security"], json!([{"token": []}]));
        assert_eq!(page["info"]["version"], env!("CARGO_PKG_VERSION"));
        let body = "/paths/~1v1~1segment/post/requestBody/content/application~1gzip/schema/maxLength";
        assert_eq!(page.pointer(body), Some(&json!(77)));
    }
}
