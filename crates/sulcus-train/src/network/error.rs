use sulcus_model::NetworkSpec;

/// Why a network cannot be built from a specification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The specification is invalid.
    #[error("the network `{name}` cannot be built: {reason}")]
    Spec {
        /// The network's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no input or no output channel, or there are too many.
    #[error(
        "the network `{name}` may have from 1 to {max} input and output channels, found {input} and {output}",
        max = NetworkSpec::MAX_CHANNELS
    )]
    Channels {
        /// The network's name.
        name: String,
        /// Number of input channels.
        input: usize,
        /// Number of output channels.
        output: usize,
    },
}
