//! A device other than the first: a thread with a replica of the network.

use std::sync::mpsc::{Receiver, Sender, channel};

use burn::tensor::{Device, Tensor};
use sulcus_kernels::StepSize;

use super::exchange::{Exchange, flatten, unflatten};
use super::replica::{Replica, StepConfig, read};
use crate::error::TrainError;
use crate::sampling::sampler::Batch;

/// A handle to the thread. The thread ends when the handle is dropped.
#[derive(Debug)]
pub(super) struct WorkerReplica {
    device: Device,
    requests: Sender<Request>,
    responses: Receiver<Response>,
}

enum Request {
    /// Compute loss and gradients of a part of a batch, with this loss scale.
    ComputeGradients(Batch, f64),
    Command(Command),
}

/// What a worker does after it has computed its gradients.
#[derive(Debug, Clone)]
pub(super) enum Command {
    /// Discard the gradients; the next batch follows.
    SkipUpdate,
    /// Average the gradients with those of the other devices.
    AverageGradients,
    /// Use these averaged gradients, which may lie on any device.
    SetAverage(Box<Tensor<1>>),
    /// Update the weights.
    ApplyGradients(StepSize),
}

enum Response {
    Ready,
    Loss(f64),
    Gradients(Box<Tensor<1>>),
    Failed(TrainError),
}

impl WorkerReplica {
    /// Starts the thread, which first tests the exchange.
    pub(super) fn start(
        rank: usize,
        replica: Replica,
        config: StepConfig,
        exchange: &Exchange,
    ) -> Result<Self, TrainError> {
        let (requests, incoming) = channel();
        let (outgoing, responses) = channel();
        let (device, exchange) = (replica.device.clone(), exchange.clone());
        let run = move || {
            let tested = exchange.test(rank, &replica.device);
            let result = tested.and_then(|()| {
                // A receiver that is gone has an error of its own.
                let _ = outgoing.send(Response::Ready);
                serve(replica, config, &exchange, &incoming, &outgoing)
            });
            if let Err(error) = result {
                let _ = outgoing.send(Response::Failed(error));
            }
        };
        std::thread::Builder::new().name(format!("device {rank}")).spawn(run).map_err(TrainError::Worker)?;
        Ok(Self { device, requests, responses })
    }

    /// Waits until the exchange has been tested.
    pub(super) fn wait_until_ready(&self) -> Result<(), TrainError> {
        match self.receive()? {
            Response::Ready => Ok(()),
            _ => Err(self.unexpected_response()),
        }
    }

    /// Sends a part of a batch; the loss is scaled by `scale`.
    pub(super) fn compute_gradients(&self, part: Batch, scale: f64) -> Result<(), TrainError> {
        self.requests.send(Request::ComputeGradients(part, scale)).map_err(|_| self.gone())
    }

    pub(super) fn send(&self, command: Command) -> Result<(), TrainError> {
        self.requests.send(Request::Command(command)).map_err(|_| self.gone())
    }

    /// The loss of the last part.
    pub(super) fn loss(&self) -> Result<f64, TrainError> {
        match self.receive()? {
            Response::Loss(loss) => Ok(loss),
            _ => Err(self.unexpected_response()),
        }
    }

    /// The gradients of the last part, concatenated.
    pub(super) fn gradients(&self) -> Result<Tensor<1>, TrainError> {
        match self.receive()? {
            Response::Gradients(row) => Ok(*row),
            _ => Err(self.unexpected_response()),
        }
    }

    fn receive(&self) -> Result<Response, TrainError> {
        match self.responses.recv() {
            Ok(Response::Failed(error)) => Err(error),
            Ok(response) => Ok(response),
            Err(_) => Err(self.gone()),
        }
    }

    /// A panic in Burn's operations, such as on a device without memory, ends the thread.
    fn gone(&self) -> TrainError {
        TrainError::Tensor(format!("the training on {:?} ended unexpectedly", self.device))
    }

    fn unexpected_response(&self) -> TrainError {
        TrainError::Tensor(format!("the training on {:?} gave an unexpected response", self.device))
    }
}

/// Handles requests until the handle is dropped.
fn serve(
    mut replica: Replica,
    config: StepConfig,
    exchange: &Exchange,
    requests: &Receiver<Request>,
    responses: &Sender<Response>,
) -> Result<(), TrainError> {
    let unexpected = || TrainError::Tensor("a device received an unexpected request".into());
    while let Ok(request) = requests.recv() {
        let Request::ComputeGradients(part, scale) = request else { return Err(unexpected()) };
        let (loss, mut gradients) = replica.loss_and_gradients(config, part, scale)?;
        let loss = read(loss)?;
        let mut averaged = None;
        if responses.send(Response::Loss(loss)).is_err() {
            return Ok(());
        }
        loop {
            match requests.recv() {
                Err(_) => return Ok(()),
                Ok(Request::ComputeGradients(..)) => return Err(unexpected()),
                Ok(Request::Command(Command::SkipUpdate)) => break,
                Ok(Request::Command(Command::AverageGradients)) => {
                    let (flat, order) = flatten(&replica.network, &mut gradients)?;
                    let average = match exchange {
                        Exchange::Collective(_) => Some(exchange.mean(flat)?),
                        Exchange::ThroughFirst => {
                            if responses.send(Response::Gradients(Box::new(flat))).is_err() {
                                return Ok(());
                            }
                            None
                        }
                    };
                    averaged = Some((average, order));
                }
                Ok(Request::Command(Command::SetAverage(average))) => {
                    let (place, _) = averaged.as_mut().ok_or_else(unexpected)?;
                    *place = Some((*average).to_device(&replica.device.clone().without_autodiff()));
                }
                Ok(Request::Command(Command::ApplyGradients(size))) => {
                    let (average, order) = averaged.take().ok_or_else(unexpected)?;
                    let average = average.ok_or_else(unexpected)?;
                    let gradients = unflatten(&replica.network, &average, &order);
                    replica = replica.apply_gradients(gradients, size);
                    break;
                }
            }
        }
    }
    Ok(())
}
