/// Why no network could be made from a specification.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Stages that make no network.
    #[error("the network `{name}` cannot be built: {reason}")]
    Spec {
        /// The network's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A network without input or output.
    #[error("the network `{name}` needs at least one input and one output channel, found {input} and {output}")]
    Channels {
        /// The network's name.
        name: String,
        /// Input channels asked for.
        input: usize,
        /// Output channels asked for.
        output: usize,
    },
}
