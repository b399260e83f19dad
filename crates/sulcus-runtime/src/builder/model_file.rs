//! Reads model files, and joins the networks of a file that one of them uses.

use std::path::PathBuf;

use sulcus_model::{FileSpec, ModelSpec, PackSpec};
use sulcus_onnx::{read_file_spec, read_spec, split_networks, split_pack};

use crate::engine::SessionPool;
use crate::loaded::Model;
use crate::{Error, ErrorKind, SharedPredictor};

#[derive(Debug, Clone)]
pub(super) enum ModelSource {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// A network of a model file that was read but not loaded yet.
pub(super) struct ModelFile {
    /// The path of the file, or `model 2 of 3`, for messages.
    pub(super) name: String,
    /// The network as a file of its own.
    pub(super) bytes: Vec<u8>,
    pub(super) spec: ModelSpec,
    /// Whether the network that precedes it in the list uses its mask.
    pub(super) is_previous: bool,
}

/// A model file that was read.
pub(super) struct ReadFile {
    /// Of each network: the one whose mask is the result, its previous network, the one before that, and so on.
    pub(super) networks: Vec<ModelFile>,
    pub(super) pack: Option<PackSpec>,
}

/// Reads a model file.
pub(super) fn read(source: &ModelSource, index: usize, total: usize) -> Result<ReadFile, Error> {
    let (bytes, name) = match source {
        ModelSource::File(path) => {
            let bytes = std::fs::read(path);
            let bytes = bytes.map_err(|source| ErrorKind::ReadModel { path: path.clone(), source })?;
            (bytes, path.display().to_string())
        }
        ModelSource::Bytes(bytes) if total == 1 => (bytes.clone(), "the model".to_owned()),
        ModelSource::Bytes(bytes) => (bytes.clone(), format!("model {} of {total}", index + 1)),
    };
    let refused = |e| ErrorKind::Model { model: name.clone(), source: Box::new(e) };
    if !cfg!(feature = "packs") {
        let spec = read_spec(&bytes).map_err(refused)?;
        let files = split_networks(bytes, &spec).map_err(refused)?;
        return Ok(ReadFile { networks: networks(&name, files, spec), pack: None });
    }
    match read_file_spec(&bytes).map_err(refused)? {
        FileSpec::Model(spec) => {
            let files = split_networks(bytes, &spec).map_err(refused)?;
            Ok(ReadFile { networks: networks(&name, files, *spec), pack: None })
        }
        FileSpec::Pack(_) if total > 1 => Err(ErrorKind::PackInEnsemble { pack: name }.into()),
        FileSpec::Pack(pack) => {
            let files = split_pack(bytes, &pack).map_err(refused)?;
            let of_network = files.into_iter().zip(&pack.networks).flat_map(|(files, network)| {
                networks(&format!("{name}, network {}", network.name), files, network.spec.clone())
            });
            Ok(ReadFile { networks: of_network.collect(), pack: Some(*pack) })
        }
    }
}

/// A network with its previous networks.
fn networks(name: &str, files: Vec<Vec<u8>>, spec: ModelSpec) -> Vec<ModelFile> {
    let previous: Vec<ModelSpec> = spec.previous_networks().map(|network| network.spec.clone()).collect();
    let specs = std::iter::once(spec).chain(previous);
    let file = |(i, (bytes, spec))| ModelFile { name: name.to_owned(), bytes, spec, is_previous: i > 0 };
    files.into_iter().zip(specs).enumerate().map(file).collect()
}

/// The models with their previous networks. `session_pool` makes the further sessions of a network.
pub(super) fn assemble(
    files: Vec<ModelFile>,
    predictors: Vec<Box<dyn SharedPredictor>>,
    session_pool: impl Fn(&ModelSpec, Vec<u8>) -> Option<SessionPool>,
) -> Vec<Model> {
    let mut models = Vec::new();
    let mut previous = None;
    // The previous networks of a model follow it.
    for (file, predictor) in files.into_iter().zip(predictors).rev() {
        let file_bytes = file.bytes.len() as u64;
        let session_pool = session_pool(&file.spec, file.bytes);
        let model = Model { spec: file.spec, predictor, session_pool, file_bytes, previous: previous.take() };
        match file.is_previous {
            true => previous = Some(Box::new(model)),
            false => models.push(model),
        }
    }
    models.reverse();
    models
}
