//! A loaded model, and the sessions in which it runs.

use std::sync::Arc;

use sulcus_model::ModelSpec;
use sulcus_pipeline::{PlannedModel, tile_edges};
use sulcus_volume::Geometry;

use crate::Error;
use crate::engine::{PooledPredictor, SessionPool, SharedPredictor};

pub(crate) struct Model {
    pub(crate) spec: ModelSpec,
    pub(crate) predictor: Box<dyn SharedPredictor>,
    /// The same model in several sessions, if that is faster.
    pub(crate) session_pool: Option<SessionPool>,
    /// Length of the file in bytes, without that of the previous network.
    pub(crate) file_bytes: u64,
    /// The network of the same file whose mask this one uses.
    pub(crate) previous: Option<Box<Model>>,
}

/// The sessions of a model that one prediction uses.
pub(crate) enum Sessions<'a> {
    One(&'a dyn SharedPredictor),
    Pool(Arc<PooledPredictor>),
}

impl Sessions<'_> {
    pub(crate) fn predictor(&self) -> &dyn SharedPredictor {
        match self {
            Self::One(predictor) => *predictor,
            Self::Pool(pool) => &**pool,
        }
    }
}

impl Model {
    /// The model, its previous network, the one before it, and so on.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &Model> {
        std::iter::successors(Some(self), |model| model.previous.as_deref())
    }

    /// What planning needs to know for a scan of this geometry.
    pub(crate) fn planned(&self, geometry: &Geometry) -> PlannedModel<'_> {
        let mut planned = PlannedModel::new(&self.spec);
        let tile = [&[1, self.spec.input_channels()], tile_edges(&self.spec, geometry).as_slice()].concat();
        planned.workspace_bytes = self.predictor.workspace_bytes(&tile);
        planned.max_sessions = self.session_pool.as_ref().map_or(1, SessionPool::count);
        planned.batch = self.predictor.batch();
        planned.file_bytes = self.file_bytes;
        planned
    }

    /// Frees the memory that engines keep for later calls, as far as they can.
    pub(crate) fn release(&self) {
        for model in self.chain() {
            model.predictor.release();
            model.session_pool.iter().for_each(SessionPool::release);
        }
    }

    pub(crate) fn sessions(&self, count: usize) -> Result<Sessions<'_>, Error> {
        match &self.session_pool {
            Some(pool) if count > 1 => Ok(Sessions::Pool(pool.predictor()?)),
            _ => Ok(Sessions::One(self.predictor.as_ref())),
        }
    }
}
