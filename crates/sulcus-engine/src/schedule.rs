//! From the layers of a network to the steps of a program.

use std::collections::HashMap;

use crate::layer::{Layer, Network, Operation, ValueId};
use crate::program::{NormId, Normalization, Program, Step, StepKind, TensorId, View};

/// Orders the steps of a network and decides what is stored.
pub(crate) fn schedule(network: Network) -> Program {
    let Network { spatial_axes, channels, layers, output } = network;
    let input_channels = channels.first().copied().unwrap_or_default();
    let mut scheduler = Scheduler {
        channels: vec![input_channels],
        norms: Vec::new(),
        steps: Vec::new(),
        views: HashMap::from([(ValueId(0), vec![View::stored(TensorId(0))])]),
        stored: HashMap::new(),
    };
    let mut last = (String::new(), "");
    for layer in layers {
        last = (layer.name.clone(), layer.operation.operator());
        scheduler.layer(layer);
    }
    let output = scheduler.stored(output, &last.0, last.1);
    let Scheduler { channels, norms, mut steps, .. } = scheduler;
    remove_unused(&mut steps, output);
    Program { spatial_axes, channels, norms, steps, output }
}

/// Removes the steps whose outputs do not contribute to the output.
fn remove_unused(steps: &mut Vec<Step>, output: TensorId) {
    let mut needed = std::collections::HashSet::from([output]);
    let mut keep = vec![false; steps.len()];
    for (step, keep) in steps.iter().zip(&mut keep).rev() {
        *keep = needed.contains(&step.output);
        if *keep {
            needed.extend(step.inputs.iter().map(|view| view.tensor));
        }
    }
    let mut keep = keep.into_iter();
    steps.retain(|_| keep.next().unwrap_or(false));
}

struct Scheduler {
    channels: Vec<usize>,
    norms: Vec<Normalization>,
    steps: Vec<Step>,
    /// Each value as views whose channels are concatenated.
    views: HashMap<ValueId, Vec<View>>,
    /// Tensors that have the values of a view.
    stored: HashMap<(TensorId, Option<NormId>, u32), TensorId>,
}

impl Scheduler {
    fn layer(&mut self, layer: Layer) {
        let Layer { name, operation, inputs, output } = layer;
        let operator = operation.operator();
        let input = inputs.first().copied().unwrap_or(ValueId(0));
        let views = match operation {
            Operation::Conv(conv) => {
                let channels = conv.outputs;
                let mut views = self.readable(input, &name, operator);
                if views.len() > 2 {
                    views = vec![View::stored(self.stored(input, &name, operator))];
                }
                self.step(name, operator, StepKind::Conv(conv), views, channels)
            }
            Operation::ConvTranspose(conv) => {
                let (channels, views) = (conv.outputs, self.single(input, &name, operator));
                self.step(name, operator, StepKind::ConvTranspose(conv), vec![views], channels)
            }
            Operation::Pool { kind, window } => {
                let view = self.single(input, &name, operator);
                self.step(name, operator, StepKind::Pool { kind, window }, vec![view], self.channels_of(view))
            }
            Operation::Add => {
                let other = inputs.get(1).copied().unwrap_or(input);
                let views = vec![self.single(input, &name, operator), self.single(other, &name, operator)];
                let channels = views.first().map_or(0, |view| self.channels_of(*view));
                self.step(name, operator, StepKind::Add, views, channels)
            }
            Operation::Concat => {
                inputs.iter().flat_map(|input| self.views.get(input).cloned().unwrap_or_default()).collect()
            }
            Operation::InstanceNorm { scale, shift, epsilon } => {
                let tensor = self.stored(input, &name, operator);
                vec![self.normalized(tensor, Normalization::Instance { tensor, scale, shift, epsilon })]
            }
            Operation::Affine { scale, shift } => {
                let tensor = self.stored(input, &name, operator);
                vec![self.normalized(tensor, Normalization::Fixed { scale, shift })]
            }
            Operation::Activation { slope } => self.activated(input, &name, operator, slope),
            Operation::Resize { kind, factor } => {
                self.unary(input, name, operator, StepKind::Resize { kind, factor })
            }
            Operation::Sigmoid => self.unary(input, name, operator, StepKind::Sigmoid),
            Operation::Softmax => self.unary(input, name, operator, StepKind::Softmax),
            Operation::Quantize(quantization) => {
                self.unary(input, name, operator, StepKind::Quantize(quantization))
            }
        };
        self.views.insert(output, views);
    }

    fn channels_of(&self, view: View) -> usize {
        self.channels.get(view.tensor.0).copied().unwrap_or_default()
    }

    /// Adds a step; returns the view of its output.
    fn step(
        &mut self,
        name: String,
        operator: &'static str,
        kind: StepKind,
        inputs: Vec<View>,
        channels: usize,
    ) -> Vec<View> {
        let output = TensorId(self.channels.len());
        self.channels.push(channels);
        self.steps.push(Step { name, operator, kind, inputs, output });
        vec![View::stored(output)]
    }

    /// A step over one stored tensor that does not change the number of channels.
    fn unary(&mut self, input: ValueId, name: String, operator: &'static str, kind: StepKind) -> Vec<View> {
        let view = View::stored(self.stored(input, &name, operator));
        let channels = self.channels_of(view);
        self.step(name, operator, kind, vec![view], channels)
    }

    fn normalized(&mut self, tensor: TensorId, normalization: Normalization) -> View {
        let norm = NormId(self.norms.len());
        self.norms.push(normalization);
        View { tensor, norm: Some(norm), slope: 1.0 }
    }

    /// Two activations in a row are one if the first keeps the sign.
    fn activated(&mut self, input: ValueId, name: &str, operator: &'static str, slope: f32) -> Vec<View> {
        let views = self.views.get(&input).cloned().unwrap_or_default();
        if views.iter().all(|view| view.slope >= 0.0) {
            return views.into_iter().map(|view| View { slope: view.slope * slope, ..view }).collect();
        }
        let tensor = self.stored(input, name, operator);
        vec![View { slope, ..View::stored(tensor) }]
    }

    /// The views of a value in a form that a convolution can read.
    fn readable(&mut self, value: ValueId, name: &str, operator: &'static str) -> Vec<View> {
        let views = self.views.get(&value).cloned().unwrap_or_default();
        views.into_iter().map(|view| self.store(view, name, operator)).map(View::stored).collect()
    }

    /// A value as one view.
    fn single(&mut self, value: ValueId, name: &str, operator: &'static str) -> View {
        match self.readable(value, name, operator).as_slice() {
            [one] => *one,
            _ => View::stored(self.stored(value, name, operator)),
        }
    }

    /// The tensor that has the values of a view, computed if there is none.
    fn store(&mut self, view: View, name: &str, operator: &'static str) -> TensorId {
        if view.is_stored() {
            return view.tensor;
        }
        let key = (view.tensor, view.norm, view.slope.to_bits());
        if let Some(stored) = self.stored.get(&key) {
            return *stored;
        }
        let channels = self.channels_of(view);
        self.step(name.to_owned(), operator, StepKind::Store, vec![view], channels);
        let stored = TensorId(self.channels.len() - 1);
        self.stored.insert(key, stored);
        stored
    }

    /// The tensor that has the values of a value.
    fn stored(&mut self, value: ValueId, name: &str, operator: &'static str) -> TensorId {
        let views = self.views.get(&value).cloned().unwrap_or_default();
        let mut views = views.into_iter();
        let Some(first) = views.next() else { return TensorId(0) };
        let mut tensor = self.store(first, name, operator);
        for next in views {
            let next = self.store(next, name, operator);
            let inputs = vec![View::stored(tensor), View::stored(next)];
            let channels = inputs.iter().map(|view| self.channels_of(*view)).sum();
            self.step(name.to_owned(), operator, StepKind::Concat, inputs, channels);
            tensor = TensorId(self.channels.len() - 1);
        }
        self.views.insert(value, vec![View::stored(tensor)]);
        tensor
    }
}
