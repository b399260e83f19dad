//! From the layers of a network to the steps of a program.
//!
//! A normalisation becomes a property of a view, with the statistics gathered by the convolution before it; an activation too, unless the
//! convolution before it can apply it when it writes. A concatenation is a list of views. A sum is the residual of a convolution, or is
//! stored in one pass.

use std::collections::{HashMap, HashSet};

use sulcus_kernels::KernelError;
use sulcus_kernels::inference::{ConvKernel, PackedConv, PackedConvTranspose};

use crate::error::EngineError;
use crate::layer::{ConvLayer, ConvTransposeLayer, Layer, Network, Operation, ValueId};
use crate::program::{NormId, Normalization, Program, Step, StepKind, TensorId, View};

/// The largest number of views whose channels a convolution can read.
const MAX_PARTS: usize = 2;

/// Orders the steps of a network, packs its weights and decides what is stored.
pub(crate) fn schedule(network: Network) -> Result<Program, EngineError> {
    let Network { spatial_axes, channels, layers, output } = network;
    let mut readers = HashMap::from([(output, 1)]);
    for input in layers.iter().flat_map(|layer| &layer.inputs) {
        *readers.entry(*input).or_insert(0) += 1;
    }
    let mut scheduler = Scheduler {
        channels: channels.first().copied().into_iter().collect(),
        norms: Vec::new(),
        steps: Vec::new(),
        readers,
        views: HashMap::from([(ValueId(0), vec![View::stored(TensorId(0))])]),
        stored: HashMap::new(),
    };
    let mut node = Node { name: String::new(), operator: "" };
    for layer in layers {
        node = Node { name: layer.name.clone(), operator: layer.operation.operator() };
        scheduler.layer(&node, layer)?;
    }
    let output = scheduler.stored(&node, output);
    let Scheduler { channels, norms, mut steps, .. } = scheduler;
    remove_unused(&mut steps, output);
    Ok(Program { spatial_axes, channels, norms, steps, output })
}

/// Removes the steps whose outputs do not contribute to the output.
fn remove_unused(steps: &mut Vec<Step>, output: TensorId) {
    let mut needed = HashSet::from([output]);
    let mut kept: Vec<Step> = Vec::with_capacity(steps.len());
    for step in std::mem::take(steps).into_iter().rev() {
        if needed.contains(&step.output) {
            needed.extend(step.reads().map(|view| view.tensor));
            kept.push(step);
        }
    }
    kept.reverse();
    *steps = kept;
}

/// The node of the graph that a step belongs to.
struct Node {
    name: String,
    operator: &'static str,
}

struct Scheduler {
    channels: Vec<usize>,
    norms: Vec<Normalization>,
    steps: Vec<Step>,
    /// How many layers read each value; the output counts as one.
    readers: HashMap<ValueId, usize>,
    /// Each value as views whose channels are concatenated.
    views: HashMap<ValueId, Vec<View>>,
    /// Tensors that have the values of a view.
    stored: HashMap<(TensorId, Option<NormId>, u32), TensorId>,
}

impl Scheduler {
    fn layer(&mut self, node: &Node, layer: Layer) -> Result<(), EngineError> {
        let Layer { operation, inputs, output, .. } = layer;
        let input = inputs.first().copied().unwrap_or(ValueId(0));
        let failed =
            |source: KernelError| EngineError::Kernel { node: node.name.clone(), operator: node.operator, source };
        let views = match operation {
            Operation::Conv(conv) => {
                let (views, channels) = (self.parts(node, input), conv.outputs);
                vec![self.step(node, StepKind::Conv(packed(&conv).map_err(failed)?), views, channels)]
            }
            Operation::ConvTranspose(conv) => {
                let (views, channels) = (self.parts(node, input), conv.outputs);
                let packed = packed_transpose(&conv).map_err(failed)?;
                vec![self.step(node, StepKind::ConvTranspose(packed), views, channels)]
            }
            Operation::Pool { kind, window } => {
                let view = self.single(node, input);
                vec![self.step(node, StepKind::Pool { kind, window }, vec![view], self.channels_of(view))]
            }
            Operation::Add => vec![self.sum(node, input, inputs.get(1).copied().unwrap_or(input))],
            Operation::Concat => inputs.iter().flat_map(|input| self.views_of(*input)).collect(),
            Operation::InstanceNorm { scale, shift, epsilon } => {
                vec![self.instance_norm(node, input, scale, shift, epsilon)]
            }
            Operation::Affine { scale, shift } => {
                let tensor = self.stored(node, input);
                vec![self.normalized(tensor, Normalization::Fixed { scale, shift })]
            }
            Operation::Activation { slope } => self.activated(node, input, slope),
            Operation::Resize { kind, factor } => self.unary(node, input, StepKind::Resize { kind, factor }),
            Operation::Sigmoid => self.unary(node, input, StepKind::Sigmoid),
            Operation::Softmax => self.unary(node, input, StepKind::Softmax),
            Operation::Quantize(quantization) => self.unary(node, input, StepKind::Quantize(quantization)),
        };
        self.views.insert(output, views);
        Ok(())
    }

    fn channels_of(&self, view: View) -> usize {
        self.channels.get(view.tensor.0).copied().unwrap_or_default()
    }

    fn views_of(&self, value: ValueId) -> Vec<View> {
        self.views.get(&value).cloned().unwrap_or_default()
    }

    /// Adds a step; returns the view of its output.
    fn step(&mut self, node: &Node, kind: StepKind, inputs: Vec<View>, channels: usize) -> View {
        let output = TensorId(self.channels.len());
        self.channels.push(channels);
        let (name, operator) = (node.name.clone(), node.operator);
        self.steps.push(Step { name, operator, kind, inputs, residual: None, slope: 1.0, moments: false, output });
        View::stored(output)
    }

    /// A step over one stored tensor that does not change the number of channels.
    fn unary(&mut self, node: &Node, input: ValueId, kind: StepKind) -> Vec<View> {
        let view = View::stored(self.stored(node, input));
        let channels = self.channels_of(view);
        vec![self.step(node, kind, vec![view], channels)]
    }

    fn normalized(&mut self, tensor: TensorId, normalization: Normalization) -> View {
        let norm = NormId(self.norms.len());
        self.norms.push(normalization);
        View { tensor, norm: Some(norm), slope: 1.0 }
    }

    /// The step that computes a value and can still be changed: nothing but the current layer reads the value, and its tensor holds
    /// nothing else.
    fn producer(&mut self, value: ValueId) -> Option<usize> {
        let [view] = self.views.get(&value)?.as_slice() else { return None };
        if self.readers.get(&value) != Some(&1) || !view.is_stored() {
            return None;
        }
        let tensor = view.tensor;
        self.steps.iter().position(|step| step.output == tensor && step.slope == 1.0 && !step.moments)
    }

    fn instance_norm(
        &mut self,
        node: &Node,
        input: ValueId,
        scale: Vec<f32>,
        shift: Vec<f32>,
        epsilon: f32,
    ) -> View {
        let tensor = self.stored(node, input);
        let producer = self.steps.iter_mut().find(|step| step.output == tensor);
        match producer {
            Some(step) if matches!(step.kind, StepKind::Conv(_) | StepKind::ConvTranspose(_)) => {
                step.moments = true;
                self.normalized(tensor, Normalization::Instance { tensor, scale, shift, epsilon })
            }
            _ => {
                let view = View::stored(tensor);
                let channels = self.channels_of(view);
                self.step(node, StepKind::Normalize { scale, shift, epsilon }, vec![view], channels)
            }
        }
    }

    /// An activation: applied by the step before it, or by those that read it. Two activations in a row are one if the first keeps the
    /// sign.
    fn activated(&mut self, node: &Node, input: ValueId, slope: f32) -> Vec<View> {
        if let Some(step) = self.producer(input).and_then(|index| self.steps.get_mut(index))
            && matches!(step.kind, StepKind::Conv(_) | StepKind::ConvTranspose(_) | StepKind::Store)
        {
            step.slope = slope;
            return self.views_of(input);
        }
        let mut views = self.views_of(input);
        if !views.iter().all(|view| view.slope >= 0.0) {
            views = vec![View::stored(self.stored(node, input))];
        }
        views
            .into_iter()
            .map(|view| View { slope: view.slope * slope, ..view })
            .map(|v| self.readable(v))
            .collect()
    }

    /// A view with an activation needs a normalisation, at least the identity.
    fn readable(&mut self, view: View) -> View {
        if view.norm.is_some() || view.is_stored() {
            return view;
        }
        let channels = self.channels_of(view);
        let identity = Normalization::Fixed { scale: vec![1.0; channels], shift: vec![0.0; channels] };
        View { slope: view.slope, ..self.normalized(view.tensor, identity) }
    }

    /// A sum: the residual of the convolution that computes one of its terms, or a step of its own.
    fn sum(&mut self, node: &Node, first: ValueId, second: ValueId) -> View {
        for (value, other) in [(first, second), (second, first)] {
            let Some(index) = self.producer(value).filter(|_| value != other) else { continue };
            let [residual] = self.views_of(other)[..] else { continue };
            // What is added has to exist before the convolution.
            let exists = residual.tensor == TensorId(0)
                || self.steps.iter().take(index).any(|step| step.output == residual.tensor);
            if let Some(step) = self.steps.get_mut(index).filter(|_| exists)
                && matches!(step.kind, StepKind::Conv(_))
                && step.residual.is_none()
            {
                step.residual = Some(residual);
                return View::stored(step.output);
            }
        }
        let (view, residual) = (self.single(node, first), self.single(node, second));
        let channels = self.channels_of(view);
        let sum = self.step(node, StepKind::Store, vec![view], channels);
        if let Some(step) = self.steps.last_mut() {
            step.residual = Some(residual);
        }
        sum
    }

    /// The views of a value in a form that a convolution can read.
    fn parts(&mut self, node: &Node, value: ValueId) -> Vec<View> {
        let views = self.views_of(value);
        if views.len() <= MAX_PARTS { views } else { vec![View::stored(self.stored(node, value))] }
    }

    /// A value as one view.
    fn single(&mut self, node: &Node, value: ValueId) -> View {
        match self.views_of(value).as_slice() {
            [one] => *one,
            _ => View::stored(self.stored(node, value)),
        }
    }

    /// The tensor that has the values of a view, computed if there is none.
    fn store(&mut self, node: &Node, view: View) -> TensorId {
        if view.is_stored() {
            return view.tensor;
        }
        let key = (view.tensor, view.norm, view.slope.to_bits());
        if let Some(stored) = self.stored.get(&key) {
            return *stored;
        }
        let channels = self.channels_of(view);
        let stored = self.step(node, StepKind::Store, vec![view], channels).tensor;
        self.stored.insert(key, stored);
        stored
    }

    /// The tensor that has the values of a value.
    fn stored(&mut self, node: &Node, value: ValueId) -> TensorId {
        let mut views = self.views_of(value).into_iter();
        let Some(first) = views.next() else { return TensorId(0) };
        let mut tensor = self.store(node, first);
        for next in views {
            let inputs = vec![View::stored(tensor), View::stored(self.store(node, next))];
            let channels = inputs.iter().map(|view| self.channels_of(*view)).sum();
            tensor = self.step(node, StepKind::Concat, inputs, channels).tensor;
        }
        self.views.insert(value, vec![View::stored(tensor)]);
        tensor
    }
}

fn packed(conv: &ConvLayer) -> Result<PackedConv, KernelError> {
    let ConvLayer { weight, bias, inputs, outputs, kernel, stride } = conv;
    let kernel = ConvKernel { inputs: *inputs, outputs: *outputs, kernel: *kernel, stride: *stride };
    PackedConv::new(kernel, weight, Some(bias))
}

fn packed_transpose(conv: &ConvTransposeLayer) -> Result<PackedConvTranspose, KernelError> {
    let ConvTransposeLayer { weight, bias, inputs, outputs, stride } = conv;
    PackedConvTranspose::new([*inputs, *outputs], *stride, weight, Some(bias))
}
