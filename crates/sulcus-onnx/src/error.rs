use sulcus_model::SPEC_KEY;
use sulcus_model::SpecError;

/// Why bytes are no model of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Something else than an ONNX file.
    #[error("this is not an ONNX file: it is {found}; expected a model.onnx that sulcus wrote")]
    NotOnnx {
        /// What it looks like.
        found: &'static str,
    },
    /// An ONNX file that ends early or was changed.
    #[error("this ONNX file is damaged or cut short: {reason}; copy or export it again")]
    Damaged {
        /// Where it stops making sense.
        reason: String,
    },
    /// Somebody else's model.
    #[error(
        "this ONNX file was not exported by sulcus: it has no {SPEC_KEY} entry, so nothing says how to prepare a scan \
         for it{}; export one with `sulcus export`", written_by(.producer)
    )]
    NoSpec {
        /// The program that wrote it, if it says so.
        producer: String,
    },
    /// A network that cannot be written in fewer bits.
    #[error("the network cannot be written in fewer bits: {reason}; export it in fp32")]
    Reduce {
        /// What stands in the way.
        reason: String,
    },
    /// Our model with a specification that can't be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

fn written_by(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!(" (it was written by {name})"),
    }
}
