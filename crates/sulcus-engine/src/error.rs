//! The error type of the engine.

use sulcus_kernels::KernelError;
use sulcus_onnx::OnnxError;

/// Why a graph cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The bytes are not a readable ONNX file.
    #[error(transparent)]
    Model(#[from] OnnxError),
    /// The graph as a whole is not one that the engine runs.
    #[error("the graph is not supported: {0}")]
    Graph(GraphProblem),
    /// One node of the graph is not supported.
    #[error("the node `{node}` ({operator}) is not supported: {reason}")]
    Node {
        /// The name of the node, or of its output if it has none.
        node: String,
        /// Its operator.
        operator: String,
        /// What is not supported.
        reason: Box<NodeProblem>,
    },
    /// The input does not fit the graph.
    #[error("the graph takes an input of shape {expected}, found {found:?}")]
    InputShape {
        /// The shape, with the names of its dynamic axes.
        expected: String,
        /// The shape of the input.
        found: Vec<usize>,
    },
    /// A slice has another length than its shape.
    #[error("the {what} has {found} values, its shape requires {expected}")]
    Length {
        /// Input or output.
        what: &'static str,
        /// The product of the shape.
        expected: usize,
        /// The length of the slice.
        found: usize,
    },
    /// A node cannot be computed for the spatial size of this input.
    #[error("the node `{node}` ({operator}) cannot be computed for an input of size {input:?}: {reason}")]
    Size {
        /// The name of the node.
        node: String,
        /// Its operator.
        operator: &'static str,
        /// D, H and W of the input of the graph; D is 1 for a 2-D graph.
        input: Vec<usize>,
        /// The reason.
        reason: String,
    },
    /// The memory for the intermediate values cannot be allocated.
    #[error("the intermediate values of this input need {bytes} bytes, which the system does not provide")]
    Memory {
        /// The number of bytes.
        bytes: u64,
    },
    /// A kernel refused a node's values.
    #[error("the node `{node}` ({operator}) failed")]
    Kernel {
        /// The name of the node.
        node: String,
        /// Its operator.
        operator: &'static str,
        /// The kernel's error.
        source: KernelError,
    },
    /// The processor lacks the instructions for the requested precision.
    #[error("this processor has no instructions for bfloat16 (AVX512-BF16)")]
    Arithmetic,
    /// The threads could not be started.
    #[error("{threads} threads could not be started: {reason}")]
    Threads {
        /// The number of threads.
        threads: usize,
        /// The system's reason.
        reason: String,
    },
}

/// Why a graph as a whole is not supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphProblem {
    /// Its operators are of an unknown version.
    #[error("it uses version {found} of ONNX's operators; versions {first} to {last} are known")]
    OperatorSet {
        /// The version; 0 if none is stated.
        found: i64,
        /// The first known version.
        first: i64,
        /// The last known version.
        last: i64,
    },
    /// It does not have one input.
    #[error("it has {0} inputs, expected one")]
    Inputs(usize),
    /// It does not have one output.
    #[error("it has {0} outputs, expected one")]
    Outputs(usize),
    /// The input is not a tensor `[N, C, (D,) H, W]` in single precision with a fixed number of channels.
    #[error(
        "its input `{0}` is not a float32 tensor [N, C, H, W] or [N, C, D, H, W] with a fixed number of channels"
    )]
    InputType(String),
    /// No node computes the output.
    #[error("no node computes its output `{0}`")]
    NoOutput(String),
    /// Two nodes or constants have the same name.
    #[error("`{0}` is defined twice")]
    DefinedTwice(String),
    /// It has too many nodes.
    #[error("it has {found} nodes; at most {most} are supported")]
    Nodes {
        /// The number of nodes.
        found: usize,
        /// The largest supported number.
        most: usize,
    },
    /// A constant cannot be read.
    #[error("the constant `{name}` cannot be read: {reason}")]
    Constant {
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
}

/// What the engine does not support about a node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeProblem {
    /// The operator.
    #[error("the engine does not know this operator")]
    Operator,
    /// An operator of another domain than ONNX's.
    #[error("it is an operator of `{0}`")]
    Domain(String),
    /// An attribute.
    #[error("its attribute `{name}`: {reason}")]
    Attribute {
        /// The name of the attribute.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The number of inputs or outputs.
    #[error("it has {inputs} inputs and {outputs} outputs")]
    Arity {
        /// The number of inputs.
        inputs: usize,
        /// The number of outputs.
        outputs: usize,
    },
    /// An input that neither an earlier node, a constant nor the graph's input defines: a graph in the wrong order, one with a cycle, or
    /// a missing constant.
    #[error("no constant or earlier node has the name of its input `{0}`")]
    Undefined(String),
    /// The constants are used so often that they would need many times the memory of the file.
    #[error("the constants up to it would need many times the memory of the file")]
    Copies,
    /// An input of the wrong kind.
    #[error("its input `{name}` is {found}, expected {expected}")]
    Input {
        /// The name of the input.
        name: String,
        /// What it has to be.
        expected: String,
        /// What it is.
        found: String,
    },
}
