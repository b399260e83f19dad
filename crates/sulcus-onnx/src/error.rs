use sulcus_model::SPEC_KEY;
use sulcus_model::SpecError;

/// Why a model file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The bytes are not an ONNX file.
    #[error("this is not an ONNX file: it is {found}; expected a model.onnx that sulcus wrote")]
    NotOnnx {
        /// The kind of file that they appear to be.
        found: &'static str,
    },
    /// An ONNX file that is truncated or corrupt.
    #[error("this ONNX file is damaged or cut short: {reason}; copy or export it again")]
    Damaged {
        /// Where and how decoding failed.
        reason: String,
    },
    /// An ONNX file that sulcus did not export.
    #[error(
        "this ONNX file was not exported by sulcus: it has no {SPEC_KEY} entry, so it does not describe how to prepare a scan \
         for it{}; expected a model that sulcus exported", written_by(.producer)
    )]
    NoSpec {
        /// The program that wrote it, or an empty string.
        producer: String,
    },
    /// A model with tensors in other files.
    #[error(
        "this ONNX file keeps tensors in another file (external data), so its bytes do not determine its weights; save the model \
         with all tensors in one file"
    )]
    ExternalData,
    /// A graph that cannot be converted to a lower precision.
    #[error("the network cannot be converted to a lower precision: {reason}; export it in fp32")]
    Precision {
        /// The reason.
        reason: String,
    },
    /// A transposed convolution that cannot be written as a convolution.
    #[error("the transposed convolution `{node}` cannot be written as a convolution: {reason}")]
    ConvTranspose {
        /// The name of its node.
        node: String,
        /// The reason.
        reason: String,
    },
    /// Networks that cannot be in one file.
    #[error("the networks cannot be put into one file: {reason}")]
    Pack {
        /// The reason.
        reason: String,
    },
    /// A model whose specification is invalid or of an unknown version.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

fn written_by(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!(" (it was written by {name})"),
    }
}
