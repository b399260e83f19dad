use std::collections::VecDeque;

use crate::{PipelineError, Predictor, Tensor};

/// Networks that answer tiles, perhaps several tiles at a time and ahead of whoever waits for them.
///
/// Tiles come in lanes, one a [window](crate::Share) that is walked over; the answers of a lane are fetched in the order
/// in which its tiles were asked.
pub trait TileQueue {
    /// Takes a tile for the network of this number.
    ///
    /// # Errors
    /// When no network has this number, or the engine has failed.
    fn ask(&mut self, stream_id: usize, network: usize, input: Tensor) -> Result<(), PipelineError>;

    /// The answer to the lane's oldest tile that has not been fetched.
    ///
    /// # Errors
    /// When the engine fails, or nothing was asked in this lane.
    fn answer(&mut self, stream_id: usize) -> Result<Tensor, PipelineError>;

    /// How many are to be asked before the first one's answer is fetched, so that no engine waits; at least 1.
    fn ahead(&self) -> usize {
        1
    }
}

/// Predictors that are asked when their answer is wanted, on the caller's thread.
pub struct SyncTileQueue<'a> {
    predictors: &'a [&'a dyn Predictor],
    waiting: VecDeque<(usize, usize, Tensor)>,
}

impl<'a> SyncTileQueue<'a> {
    /// The number of a predictor is its place.
    pub fn new(predictors: &'a [&'a dyn Predictor]) -> Self {
        Self { predictors, waiting: VecDeque::new() }
    }
}

impl TileQueue for SyncTileQueue<'_> {
    fn ask(&mut self, stream_id: usize, network: usize, input: Tensor) -> Result<(), PipelineError> {
        self.waiting.push_back((stream_id, network, input));
        Ok(())
    }

    fn answer(&mut self, stream_id: usize) -> Result<Tensor, PipelineError> {
        let oldest = self.waiting.iter().position(|(of, _, _)| *of == stream_id);
        let (_, network, input) =
            oldest.and_then(|at| self.waiting.remove(at)).ok_or_else(PipelineError::no_model)?;
        let predictor = self.predictors.get(network).ok_or_else(PipelineError::no_model)?;
        Ok(predictor.logits(input)?)
    }
}
