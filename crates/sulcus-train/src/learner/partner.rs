//! A device beside the first one: a thread with a copy of the network.

use std::sync::mpsc::{Receiver, Sender, channel};

use burn::tensor::{Device, Tensor};
use sulcus_kernels::StepSize;

use super::exchange::{Exchange, flatten, unflatten};
use super::replica::{Computing, Replica};
use crate::TrainError;
use crate::sampler::Batch;

/// The end of the thread that the training holds. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Partner {
    device: Device,
    orders: Sender<Order>,
    reports: Receiver<Report>,
}

enum Order {
    Learn(Batch, f64),
    Move(Move),
}

/// What a partner does once it has its gradients.
#[derive(Debug, Clone)]
pub(super) enum Move {
    /// Nothing: the next batch comes.
    Stay,
    /// Average gradients with the others.
    Meet,
    /// This is the average, on any device.
    Take(Box<Tensor<1>>),
    /// Move the weights.
    By(StepSize),
}

enum Report {
    Ready,
    Loss(f64),
    Gradients(Tensor<1>),
    Failed(TrainError),
}

impl Partner {
    /// Starts the thread, which tries the exchange out first.
    pub(super) fn start(
        seat: usize,
        replica: Replica,
        computing: Computing,
        exchange: &Exchange,
    ) -> Result<Self, TrainError> {
        let (orders, to_do) = channel();
        let (report, reports) = channel();
        let (device, exchange) = (replica.device.clone(), exchange.clone());
        let work = move || {
            let tried = exchange.try_out(seat, &replica.device);
            let outcome = tried.and_then(|()| {
                // Whoever does not listen any more has an error of its own.
                let _ = report.send(Report::Ready);
                work(replica, computing, &exchange, &to_do, &report)
            });
            if let Err(error) = outcome {
                let _ = report.send(Report::Failed(error));
            }
        };
        std::thread::Builder::new().name(format!("device {seat}")).spawn(work).map_err(TrainError::Worker)?;
        Ok(Self { device, orders, reports })
    }

    /// Waits until the exchange was tried out.
    pub(super) fn is_ready(&self) -> Result<(), TrainError> {
        match self.report()? {
            Report::Ready => Ok(()),
            _ => Err(self.out_of_step()),
        }
    }

    /// Hands over a part of a batch; the loss will be scaled by `scale`.
    pub(super) fn learn(&self, part: Batch, scale: f64) -> Result<(), TrainError> {
        self.orders.send(Order::Learn(part, scale)).map_err(|_| self.gone())
    }

    pub(super) fn tell(&self, order: Move) -> Result<(), TrainError> {
        self.orders.send(Order::Move(order)).map_err(|_| self.gone())
    }

    /// The loss of the last part.
    pub(super) fn loss(&self) -> Result<f64, TrainError> {
        match self.report()? {
            Report::Loss(loss) => Ok(loss),
            _ => Err(self.out_of_step()),
        }
    }

    /// The gradients of the last part, in a row.
    pub(super) fn gradients(&self) -> Result<Tensor<1>, TrainError> {
        match self.report()? {
            Report::Gradients(row) => Ok(row),
            _ => Err(self.out_of_step()),
        }
    }

    fn report(&self) -> Result<Report, TrainError> {
        match self.reports.recv() {
            Ok(Report::Failed(error)) => Err(error),
            Ok(report) => Ok(report),
            Err(_) => Err(self.gone()),
        }
    }

    /// Panics in Burn's operations, such as of a device without memory, end the thread.
    fn gone(&self) -> TrainError {
        TrainError::Tensor(format!("the training on {:?} has ended before its time", self.device))
    }

    fn out_of_step(&self) -> TrainError {
        TrainError::Tensor(format!("the training on {:?} is out of step with the others", self.device))
    }
}

/// Follows orders until nobody gives any.
fn work(
    mut replica: Replica,
    computing: Computing,
    exchange: &Exchange,
    orders: &Receiver<Order>,
    reports: &Sender<Report>,
) -> Result<(), TrainError> {
    let out_of_step = || TrainError::Tensor("a device was given orders out of turn".into());
    while let Ok(order) = orders.recv() {
        let Order::Learn(part, scale) = order else { return Err(out_of_step()) };
        let (loss, mut gradients) = replica.slopes(computing, part, scale)?;
        let mut averaged = None;
        if reports.send(Report::Loss(loss)).is_err() {
            return Ok(());
        }
        loop {
            match orders.recv() {
                Err(_) => return Ok(()),
                Ok(Order::Learn(..)) => return Err(out_of_step()),
                Ok(Order::Move(Move::Stay)) => break,
                Ok(Order::Move(Move::Meet)) => {
                    let own = gradients.as_mut().ok_or_else(out_of_step)?;
                    let (row, order) = flatten(&replica.network, own)?;
                    let row = match exchange {
                        Exchange::Collective(_) => Some(exchange.reduce(row)?),
                        Exchange::ThroughFirst => {
                            if reports.send(Report::Gradients(row)).is_err() {
                                return Ok(());
                            }
                            None
                        }
                    };
                    averaged = Some((row, order));
                }
                Ok(Order::Move(Move::Take(row))) => {
                    let (place, _) = averaged.as_mut().ok_or_else(out_of_step)?;
                    *place = Some((*row).to_device(&replica.device.clone().without_autodiff()));
                }
                Ok(Order::Move(Move::By(size))) => {
                    let (row, order) = averaged.take().ok_or_else(out_of_step)?;
                    let row = row.ok_or_else(out_of_step)?;
                    let gradients = unflatten(&replica.network, &row, &order);
                    replica = replica.moved(gradients, size);
                    break;
                }
            }
        }
    }
    Ok(())
}
