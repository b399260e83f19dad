//! What a segmented scan is answered with.

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};

use crate::negotiate::Form;
use crate::outcome::Outcome;

/// The header with what is said of a mask.
pub(crate) const RESULT: &str = "sulcus-result";

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) form: Form,
    /// The mask; empty where only its description was asked for.
    pub(crate) mask: Vec<u8>,
    pub(crate) outcome: Outcome,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self { form, mask, outcome } = self;
        let body = match form {
            Form::Json => serde_json::to_vec(&outcome).unwrap_or_default(),
            Form::Gzip | Form::Plain => mask,
        };
        let mut response = body.into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        let name = match form {
            Form::Json => return response,
            Form::Gzip => "attachment; filename=\"mask.nii.gz\"",
            Form::Plain => "attachment; filename=\"mask.nii\"",
        };
        headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
        if let Some(value) = outcome.header().and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(RESULT, value);
        }
        response
    }
}
