//! From the layers of a network to the steps of a program.
//!
//! A normalisation becomes a property of a view, with the statistics gathered by the convolution before it; an activation too, unless the
//! convolution before it can apply it when it writes. A concatenation is a list of views. A sum is the residual of a convolution, or is
//! stored in one pass. The rounding to 8 bits is done by the convolution that writes the value or by the one that reads it.

use std::collections::{HashMap, HashSet};

use sulcus_kernels::KernelError;
use sulcus_kernels::inference::Quantization;

use crate::arithmetic::Arithmetic;
use crate::error::EngineError;
use crate::layer::{ConvLayer, ConvTransposeLayer, Layer, Network, Operation, PoolKind, ValueId};
use crate::pack::{head_values, packed, packed_transpose};
use crate::program::{NormId, Normalization, Program, Step, StepKind, Storage, StoredTensor, TensorId, View};

/// The largest number of views whose channels a convolution can read.
const MAX_PARTS: usize = 2;
/// A value of more views than this is stored before it is concatenated again, so that the lists stay short.
const MAX_VIEWS: usize = 8;

/// Orders the steps of a network, packs its weights and decides what is stored.
pub(crate) fn schedule(network: Network, arithmetic: Arithmetic) -> Result<Program, EngineError> {
    let heads = head_values(&network);
    let Network { names, spatial_axes, channels, layers, output } = network;
    let mut readers = HashMap::from([(output, 1)]);
    for input in layers.iter().flat_map(|layer| &layer.inputs) {
        *readers.entry(*input).or_insert(0) += 1;
    }
    let input = channels.first().copied().unwrap_or_default();
    let mut scheduler = Scheduler {
        arithmetic,
        heads,
        tensors: vec![StoredTensor { channels: input, storage: Storage::F32 }],
        norms: Vec::new(),
        steps: Vec::new(),
        readers,
        views: HashMap::from([(ValueId(0), vec![View::stored(TensorId(0))])]),
        stored: HashMap::new(),
        identities: HashMap::new(),
        dequantizations: HashMap::new(),
    };
    let mut node = Node { name: String::new(), operator: "" };
    for layer in layers {
        node = Node { name: layer.name.clone(), operator: layer.operation.operator() };
        scheduler.layer(&node, layer)?;
    }
    let output = scheduler.stored(&node, output);
    let Scheduler { tensors, norms, mut steps, .. } = scheduler;
    remove_unused(&mut steps, output);
    Ok(Program { names, spatial_axes, tensors, norms, steps, output })
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

/// What a view applies to its tensor, with floats as their bits.
type ViewKey = (TensorId, Option<NormId>, u32, Option<(u32, u8)>);

fn view_key(view: View) -> ViewKey {
    let round = view.round.map(|round| (round.scale.to_bits(), round.zero_point));
    (view.tensor, view.norm, view.slope.to_bits(), round)
}

struct Scheduler {
    arithmetic: Arithmetic,
    /// Values that become the output without another convolution.
    heads: HashSet<ValueId>,
    tensors: Vec<StoredTensor>,
    norms: Vec<Normalization>,
    steps: Vec<Step>,
    /// How many layers read each value; the output counts as one.
    readers: HashMap<ValueId, usize>,
    /// Each value as views whose channels are concatenated.
    views: HashMap<ValueId, Vec<View>>,
    /// Tensors in single precision that have the values of a view.
    stored: HashMap<ViewKey, TensorId>,
    /// The normalisation that changes nothing, by its number of channels.
    identities: HashMap<usize, NormId>,
    /// The normalisations that turn the integers of tensors into values.
    dequantizations: HashMap<TensorId, NormId>,
}

impl Scheduler {
    fn layer(&mut self, node: &Node, layer: Layer) -> Result<(), EngineError> {
        let Layer { operation, inputs, output, .. } = layer;
        let input = inputs.first().copied().unwrap_or(ValueId(0));
        let failed =
            |source: KernelError| EngineError::Kernel { node: node.name.clone(), operator: node.operator, source };
        let views = match operation {
            Operation::Conv(conv) => vec![self.conv(node, conv, input, output).map_err(failed)?],
            Operation::ConvTranspose(conv) => vec![self.conv_transpose(node, &conv, input).map_err(failed)?],
            Operation::Pool { kind, window } => vec![self.pool(node, input, kind, window)],
            Operation::Add => vec![self.sum(node, input, inputs.get(1).copied().unwrap_or(input))],
            Operation::Concat => self.concatenated(node, &inputs),
            Operation::InstanceNorm { scale, shift, epsilon } => {
                vec![self.instance_norm(node, input, scale, shift, epsilon)]
            }
            Operation::Affine { scale, shift } => vec![self.affine(node, input, scale, shift)],
            // The identity is stored, so that no two values share the tensor of a step that can still be changed.
            Operation::Activation { slope: 1.0 } => {
                let view = self.single(node, input);
                vec![self.step(node, StepKind::Store, vec![view], self.channels_of(view))]
            }
            Operation::Activation { slope } => self.activated(node, input, slope),
            Operation::Resize { kind, factor } => self.unary(node, input, StepKind::Resize { kind, factor }),
            Operation::Sigmoid => self.unary(node, input, StepKind::Sigmoid),
            Operation::Softmax => self.unary(node, input, StepKind::Softmax),
            Operation::Quantize(quantization) => self.rounded(node, input, quantization),
        };
        self.views.insert(output, views);
        Ok(())
    }

    fn channels_of(&self, view: View) -> usize {
        self.tensors.get(view.tensor.0).map(|tensor| tensor.channels).unwrap_or_default()
    }

    fn storage_of(&self, tensor: TensorId) -> Storage {
        self.tensors.get(tensor.0).map_or(Storage::F32, |tensor| tensor.storage)
    }

    fn set_storage(&mut self, tensor: TensorId, storage: Storage) {
        if let Some(tensor) = self.tensors.get_mut(tensor.0) {
            tensor.storage = storage;
        }
    }

    /// The storage of values between layers.
    fn intermediate(&self) -> Storage {
        match self.arithmetic {
            Arithmetic::Single => Storage::F32,
            Arithmetic::Bfloat16 => Storage::Bf16,
        }
    }

    fn views_of(&self, value: ValueId) -> Vec<View> {
        self.views.get(&value).cloned().unwrap_or_default()
    }

    /// Adds a step; returns the view of its output, which is stored in single precision.
    fn step(&mut self, node: &Node, kind: StepKind, inputs: Vec<View>, channels: usize) -> View {
        let output = TensorId(self.tensors.len());
        self.tensors.push(StoredTensor { channels, storage: Storage::F32 });
        let (name, operator) = (node.name.clone(), node.operator);
        self.steps.push(Step { name, operator, kind, inputs, residual: None, slope: 1.0, moments: false, output });
        View::stored(output)
    }

    /// A step over one tensor in single precision that does not change the number of channels.
    fn unary(&mut self, node: &Node, input: ValueId, kind: StepKind) -> Vec<View> {
        let view = View::stored(self.stored(node, input));
        let channels = self.channels_of(view);
        vec![self.step(node, kind, vec![view], channels)]
    }

    fn conv(
        &mut self,
        node: &Node,
        conv: ConvLayer,
        input: ValueId,
        output: ValueId,
    ) -> Result<View, KernelError> {
        let channels = conv.outputs;
        let is_head = self.heads.contains(&output);
        let arithmetic = if is_head { Arithmetic::Single } else { self.arithmetic };
        let (packed, quantization) = packed(conv, arithmetic)?;
        let views = self.parts(node, input, quantization);
        let view = self.step(node, StepKind::Conv(packed), views, channels);
        if !is_head {
            self.set_storage(view.tensor, self.intermediate());
        }
        Ok(view)
    }

    fn conv_transpose(
        &mut self,
        node: &Node,
        conv: &ConvTransposeLayer,
        input: ValueId,
    ) -> Result<View, KernelError> {
        let packed = packed_transpose(conv, self.arithmetic)?;
        let views = self.parts(node, input, None);
        let view = self.step(node, StepKind::ConvTranspose(packed), views, conv.outputs);
        self.set_storage(view.tensor, self.intermediate());
        Ok(view)
    }

    fn normalization(&mut self, normalization: Normalization) -> NormId {
        self.norms.push(normalization);
        NormId(self.norms.len() - 1)
    }

    fn normalized(&mut self, tensor: TensorId, normalization: Normalization) -> View {
        View { norm: Some(self.normalization(normalization)), ..View::stored(tensor) }
    }

    /// Stores a tensor in 8 bits; returns the view of its values.
    fn quantize_tensor(&mut self, tensor: TensorId, quantization: Quantization) -> View {
        self.set_storage(tensor, Storage::U8(quantization));
        let channels = self.channels_of(View::stored(tensor));
        let shift = -f32::from(quantization.zero_point) * quantization.scale;
        let scale = vec![quantization.scale; channels];
        let view = self.normalized(tensor, Normalization::Fixed { scale, shift: vec![shift; channels] });
        if let Some(norm) = view.norm {
            self.dequantizations.insert(tensor, norm);
        }
        view
    }

    /// The tensor whose values a view is, without an operation on them.
    fn tensor_of(&self, view: View) -> Option<TensorId> {
        let is_value = view.is_stored()
            || (view.norm.is_some()
                && view.norm == self.dequantizations.get(&view.tensor).copied()
                && view.slope == 1.0
                && view.round.is_none());
        is_value.then_some(view.tensor)
    }

    /// The quantization of the values of a view that are integers already.
    fn quantization_of(&self, view: View) -> Option<Quantization> {
        match (view.round, self.tensor_of(view).map(|tensor| self.storage_of(tensor))) {
            (Some(round), _) => Some(round),
            (None, Some(Storage::U8(quantization))) => Some(quantization),
            _ => None,
        }
    }

    /// The step that computes a value and can still be changed: nothing but the current layer reads the value, and its tensor holds
    /// nothing else.
    fn producer(&mut self, value: ValueId) -> Option<usize> {
        let [view] = self.views.get(&value)?.as_slice() else { return None };
        if self.readers.get(&value) != Some(&1) || !view.is_stored() {
            return None;
        }
        let tensor = view.tensor;
        if self.stored.values().any(|stored| *stored == tensor) {
            return None;
        }
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
        if let [view] = self.views_of(input)[..]
            && let Some(tensor) = self.tensor_of(view)
            && let quantization = self.quantization_of(view)
            && let Some(step) = self.steps.iter_mut().find(|step| step.output == tensor)
            && matches!(step.kind, StepKind::Conv(_) | StepKind::ConvTranspose(_))
        {
            step.moments = true;
            let norm = Normalization::Instance { tensor, scale, shift, epsilon, quantization };
            return self.normalized(tensor, norm);
        }
        let view = View::stored(self.stored(node, input));
        let channels = self.channels_of(view);
        self.step(node, StepKind::Normalize { scale, shift, epsilon }, vec![view], channels)
    }

    fn affine(&mut self, node: &Node, input: ValueId, scale: Vec<f32>, shift: Vec<f32>) -> View {
        let tensor = match self.views_of(input)[..] {
            [view] if view.is_stored() => view.tensor,
            _ => self.stored(node, input),
        };
        self.normalized(tensor, Normalization::Fixed { scale, shift })
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
        if !views.iter().all(|view| view.slope >= 0.0 && view.round.is_none()) {
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
        let norm = match self.identities.get(&channels) {
            Some(norm) => *norm,
            None => {
                let identity = Normalization::Fixed { scale: vec![1.0; channels], shift: vec![0.0; channels] };
                let norm = self.normalization(identity);
                self.identities.insert(channels, norm);
                norm
            }
        };
        View { norm: Some(norm), ..view }
    }

    /// A value rounded to 8 bits: by the convolution that computes it, or by those that read it.
    fn rounded(&mut self, node: &Node, input: ValueId, quantization: Quantization) -> Vec<View> {
        if let Some(step) = self.producer(input).and_then(|index| self.steps.get(index))
            && matches!(step.kind, StepKind::Conv(_) | StepKind::ConvTranspose(_))
        {
            let tensor = step.output;
            return vec![self.quantize_tensor(tensor, quantization)];
        }
        let mut rounded = self.views_of(input);
        for view in &mut rounded {
            *view = match self.quantization_of(*view) {
                Some(known) if known == quantization => *view,
                Some(_) => View::stored(self.store(node, *view)).rounded(quantization),
                None if self.is_only_read_rounded(*view) => self.quantize_tensor(view.tensor, quantization),
                None => view.rounded(quantization),
            };
        }
        rounded
    }

    /// Whether a view is the result of a transposed convolution that nothing reads but the current layer, through a concatenation.
    fn is_only_read_rounded(&self, view: View) -> bool {
        let step = self.steps.iter().find(|step| step.output == view.tensor);
        let is_upsampled =
            step.is_some_and(|step| matches!(step.kind, StepKind::ConvTranspose(_)) && !step.moments);
        let values = self.views.iter().filter(|(_, views)| views.iter().any(|other| other.tensor == view.tensor));
        let mut readers = values.map(|(value, _)| self.readers.get(value).copied().unwrap_or_default());
        view.is_stored()
            && is_upsampled
            && readers.all(|readers| readers == 1)
            && !self.stored.values().any(|stored| *stored == view.tensor)
    }

    /// Pooling. The maximum of values in 8 bits is one of them, so it is stored in 8 bits.
    fn pool(&mut self, node: &Node, input: ValueId, kind: PoolKind, window: [usize; 3]) -> View {
        if let ([view], PoolKind::Max) = (&self.views_of(input)[..], kind)
            && let Some(quantization) = self.quantization_of(*view)
        {
            let (view, channels) = (View { round: None, ..*view }, self.channels_of(*view));
            let pooled = self.step(node, StepKind::Pool { kind, window }, vec![view], channels);
            return self.quantize_tensor(pooled.tensor, quantization);
        }
        let view = self.single(node, input);
        let pooled = self.step(node, StepKind::Pool { kind, window }, vec![view], self.channels_of(view));
        self.set_storage(pooled.tensor, self.intermediate());
        pooled
    }

    /// A sum: the residual of the convolution that computes one of its terms, or a step of its own.
    fn sum(&mut self, node: &Node, first: ValueId, second: ValueId) -> View {
        for (value, other) in [(first, second), (second, first)] {
            let Some(index) = self.producer(value).filter(|_| value != other) else { continue };
            let [residual] = self.views_of(other)[..] else { continue };
            // What is added has to exist before the convolution.
            let exists = residual.tensor == TensorId(0)
                || self.steps.iter().take(index).any(|step| step.output == residual.tensor);
            if let Some(step) = self.steps.get_mut(index).filter(|_| exists && residual.round.is_none())
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
        self.set_storage(sum.tensor, self.intermediate());
        sum
    }

    /// The views of several values as one list.
    fn concatenated(&mut self, node: &Node, inputs: &[ValueId]) -> Vec<View> {
        let mut views = Vec::new();
        for input in inputs {
            let part = self.views_of(*input);
            if part.len() > MAX_VIEWS {
                views.push(View::stored(self.stored(node, *input)));
            } else {
                views.extend(part);
            }
        }
        views
    }

    /// The views of a value in a form that a convolution can read, which rounds what it reads to `quantization`.
    fn parts(&mut self, node: &Node, value: ValueId, quantization: Option<Quantization>) -> Vec<View> {
        let views = self.views_of(value);
        if views.len() > MAX_PARTS {
            return vec![View::stored(self.stored(node, value))];
        }
        let mut parts = Vec::with_capacity(views.len());
        for view in views {
            parts.push(if view.round == quantization {
                View { round: None, ..view }
            } else {
                self.exact(node, view)
            });
        }
        parts
    }

    /// A value as one view, with no rounding that its reader would have to do.
    fn single(&mut self, node: &Node, value: ValueId) -> View {
        match self.views_of(value).as_slice() {
            [one] => self.exact(node, *one),
            _ => View::stored(self.stored(node, value)),
        }
    }

    fn exact(&mut self, node: &Node, view: View) -> View {
        if view.round.is_some() { View::stored(self.store(node, view)) } else { view }
    }

    /// The tensor in single precision that has the values of a view, computed if there is none.
    fn store(&mut self, node: &Node, view: View) -> TensorId {
        if view.is_stored() && self.storage_of(view.tensor) == Storage::F32 {
            return view.tensor;
        }
        if let Some(stored) = self.stored.get(&view_key(view)) {
            return *stored;
        }
        let channels = self.channels_of(view);
        let stored = match view.round {
            Some(round) => {
                let exact = View::stored(self.store(node, View { round: None, ..view }));
                self.step(node, StepKind::Quantize(round), vec![exact], channels).tensor
            }
            None => self.step(node, StepKind::Store, vec![view], channels).tensor,
        };
        self.stored.insert(view_key(view), stored);
        stored
    }

    /// The tensor in single precision that has the values of a value.
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
