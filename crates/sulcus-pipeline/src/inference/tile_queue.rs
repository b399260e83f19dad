use std::collections::VecDeque;

use crate::{PipelineError, Predictor, Tensor};

/// Runs networks on tiles, possibly several tiles at a time and in the background.
///
/// A *stream* is the sequence of tiles of one sliding window; the results of a stream are received in the order in which its
/// tiles were submitted.
pub trait TileQueue {
    /// Submits a tile of a stream to a network, given by its index.
    ///
    /// # Errors
    /// When there is no network with this index, or the engine has failed.
    fn submit(&mut self, stream_id: usize, network: usize, tile: Tensor) -> Result<(), PipelineError>;

    /// The logits of the oldest tile of the stream that have not been received yet.
    ///
    /// # Errors
    /// When the engine fails, or the stream has no tile in the queue.
    fn receive(&mut self, stream_id: usize) -> Result<Tensor, PipelineError>;

    /// Number of tiles to submit before the first one is received, so that the engine never waits; at least 1.
    fn depth(&self) -> usize {
        1
    }
}

/// Runs each tile on the caller's thread when its result is received.
pub struct SyncTileQueue<'a> {
    predictors: &'a [&'a dyn Predictor],
    pending: VecDeque<PendingTile>,
}

struct PendingTile {
    stream_id: usize,
    network: usize,
    tile: Tensor,
}

impl<'a> SyncTileQueue<'a> {
    /// The index of a network is its position in `predictors`.
    pub fn new(predictors: &'a [&'a dyn Predictor]) -> Self {
        Self { predictors, pending: VecDeque::new() }
    }
}

impl TileQueue for SyncTileQueue<'_> {
    fn submit(&mut self, stream_id: usize, network: usize, tile: Tensor) -> Result<(), PipelineError> {
        self.pending.push_back(PendingTile { stream_id, network, tile });
        Ok(())
    }

    fn receive(&mut self, stream_id: usize) -> Result<Tensor, PipelineError> {
        let oldest = self.pending.iter().position(|pending| pending.stream_id == stream_id);
        let PendingTile { network, tile, .. } =
            oldest.and_then(|at| self.pending.remove(at)).ok_or_else(PipelineError::no_model)?;
        let predictor = self.predictors.get(network).ok_or_else(PipelineError::no_model)?;
        Ok(predictor.logits(tile)?)
    }
}
