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
    /// There is no input or no output channel.
    #[error("the network `{name}` needs at least one input and one output channel, found {input} and {output}")]
    Channels {
        /// The network's name.
        name: String,
        /// Number of input channels.
        input: usize,
        /// Number of output channels.
        output: usize,
    },
}
