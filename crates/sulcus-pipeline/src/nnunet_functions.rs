//! What nnU-Net's own functions computed (`tests/peers/nnunet_numerics.py`), for tests. All triples are z, y, x.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use serde::Deserialize;
use sulcus_model::{NnunetResampling, Normalisation};

#[derive(Deserialize)]
pub(crate) struct Functions {
    pub(crate) resampling: Vec<Resampling>,
    pub(crate) masks: Vec<Mask>,
    pub(crate) normalisation: Vec<Normalising>,
    pub(crate) gaussian: Vec<Gaussian>,
    pub(crate) steps: Vec<Steps>,
}

#[derive(Deserialize)]
pub(crate) struct Resampling {
    pub(crate) rule: NnunetResampling,
    pub(crate) dtype: String,
    pub(crate) from: [usize; 3],
    pub(crate) to: [usize; 3],
    pub(crate) from_mm: [f64; 3],
    pub(crate) to_mm: [f64; 3],
    pub(crate) values: String,
    pub(crate) found_dtype: String,
    pub(crate) found: String,
}

#[derive(Deserialize)]
pub(crate) struct Mask {
    pub(crate) rule: NnunetResampling,
    pub(crate) from: [usize; 3],
    pub(crate) to: [usize; 3],
    pub(crate) from_mm: [f64; 3],
    pub(crate) to_mm: [f64; 3],
    /// A digit for each voxel, one more than its label.
    pub(crate) values: String,
    pub(crate) found: String,
}

#[derive(Deserialize)]
pub(crate) struct Normalising {
    pub(crate) scheme: Normalisation,
    pub(crate) full: [usize; 3],
    #[serde(rename = "box")]
    pub(crate) part: [[usize; 2]; 3],
    pub(crate) transpose: [usize; 3],
    pub(crate) shape: [usize; 3],
    pub(crate) checksum: String,
    pub(crate) first: String,
}

#[derive(Deserialize)]
pub(crate) struct Gaussian {
    pub(crate) tile: Vec<usize>,
    pub(crate) checksum: String,
    pub(crate) centre: f32,
}

#[derive(Deserialize)]
pub(crate) struct Steps {
    pub(crate) image: usize,
    pub(crate) tile: usize,
    pub(crate) step: f64,
    pub(crate) starts: Vec<usize>,
}

pub(crate) fn functions() -> Functions {
    serde_json::from_str(include_str!("../tests/fixtures/nnunet_functions.json")).unwrap()
}

pub(crate) fn bytes(hexadecimal: &str) -> Vec<u8> {
    (0..hexadecimal.len()).step_by(2).map(|i| u8::from_str_radix(&hexadecimal[i..i + 2], 16).unwrap()).collect()
}

pub(crate) fn words<const N: usize>(hexadecimal: &str) -> Vec<[u8; N]> {
    bytes(hexadecimal).as_chunks::<N>().0.to_vec()
}
