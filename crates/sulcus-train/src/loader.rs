use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::TrainError;
use crate::sampler::{Batch, Sampler};

/// Batches that each worker prepares ahead of the training.
const AHEAD: usize = 2;

/// The batches of an epoch, drawn and varied by threads beside the training. They come in order: worker `w` of `n`
/// makes batches `w`, `w + n`, …, and they are collected in turn.
pub(crate) struct Loader {
    workers: Vec<(Receiver<Batch>, JoinHandle<()>)>,
    step: usize,
    first: usize,
    steps: usize,
}

impl Loader {
    /// Starts at batch `first` of an epoch with `steps` batches.
    pub(crate) fn start(
        sampler: &Arc<Sampler>,
        epoch: usize,
        first: usize,
        steps: usize,
        workers: usize,
    ) -> Result<Self, TrainError> {
        let count = workers.clamp(1, steps.saturating_sub(first).max(1));
        let mut threads = Vec::with_capacity(count);
        for worker in 0..count {
            let (sender, receiver) = sync_channel(AHEAD);
            let sampler = Arc::clone(sampler);
            let work = move || {
                for step in (first + worker..steps).step_by(count) {
                    // The training has ended early when nobody receives any more.
                    if sender.send(sampler.batch(epoch, step)).is_err() {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("loader-{worker}")).spawn(work);
            threads.push((receiver, thread.map_err(TrainError::Worker)?));
        }
        Ok(Self { workers: threads, step: first, first, steps })
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.step >= self.steps {
            return None;
        }
        let worker = (self.step - self.first) % self.workers.len().max(1);
        self.step += 1;
        let (receiver, _) = self.workers.get(worker)?;
        let ended = || TrainError::Worker(std::io::Error::other("it ended before its last batch"));
        Some(receiver.recv().map_err(|_| ended()))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        for (receiver, thread) in self.workers.drain(..) {
            drop(receiver);
            // A panicked worker has been reported by the missing batch.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use sulcus_pipeline::{Training, prepare, prepare_labels};
    use sulcus_volume::{
        Geometry, Image, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing,
    };

    use super::*;
    use crate::sampler::TrainingCase;
    use crate::{Augmentation, Plan, TrainConfig};

    /// Ten slices of 20 × 14; the third alone holds a structure, at one pixel.
    fn sampler() -> Sampler {
        const SHAPE: [usize; 3] = [20, 14, 10];
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let geometry = Geometry::new(SHAPE, map, OrientationSource::Sform).unwrap();
        let voxels: usize = SHAPE.iter().product();
        let held = (2 * SHAPE[1] + 13) * SHAPE[0] + 19;
        let image = Image::new(geometry, 1, (0..voxels).map(|i| i as f32).collect()).unwrap();
        let labels = LabelMap::new(geometry, (0..voxels).map(|i| u16::from(i == held)).collect()).unwrap();
        let mut config = TrainConfig::from_preset("unet2d-lite").unwrap();
        config.orientation = Some(Orientation::RAS);
        let table = LabelTable::from_names([(1, "A".to_owned())]).unwrap();
        let plan = Plan::decide(&config, &["MRI".into()], &table, &[]).unwrap();
        let spec = plan.model_spec("test".into(), Training::default());
        let image = prepare(&spec, &image).unwrap().0;
        Sampler {
            cases: vec![TrainingCase::new(image, prepare_labels(&spec, &labels, None).unwrap(), 1)],
            patch: [8, 24],
            batch_size: 4,
            foreground_share: 0.5,
            augmentation: Augmentation::none(),
            seed: 5,
        }
    }

    fn epoch(sampler: &Arc<Sampler>, epoch: usize, first: usize, workers: usize) -> Vec<Batch> {
        Loader::start(sampler, epoch, first, 7, workers).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn neither_workers_nor_an_interruption_change_the_batches() {
        let sampler = Arc::new(sampler());
        let alone = epoch(&sampler, 3, 0, 1);
        assert_eq!(alone.len(), 7);
        assert_eq!(epoch(&sampler, 3, 0, 3), alone);
        assert_eq!(epoch(&sampler, 3, 5, 2), alone[5..]);
        assert_ne!(epoch(&sampler, 4, 0, 1), alone);
        assert_ne!(alone[0], alone[1]);
    }

    #[test]
    fn the_promised_share_of_a_batch_holds_foreground_even_where_it_is_rare() {
        for batch in epoch(&Arc::new(sampler()), 0, 0, 2) {
            assert_eq!(batch.shape, [4, 1, 8, 24]);
            let holds: Vec<bool> = batch.classes.chunks(8 * 24).map(|c| c.contains(&1)).collect();
            assert_eq!(holds[..2], [true, true]);
        }
    }

    #[test]
    fn an_epoch_that_is_left_early_ends_its_threads() {
        let sampler = Arc::new(sampler());
        let mut batches = Loader::start(&sampler, 0, 0, 1000, 3).unwrap();
        batches.next().unwrap().unwrap();
        drop(batches);
        assert_eq!(Arc::strong_count(&sampler), 1);
    }
}
