use sulcus_runtime::{Error as RuntimeError, SegmentOptions, Segmentation, Segmenter};
use sulcus_volume::Image;

/// What scans are put through: a [`Segmenter`], or one with something around it.
///
/// Called from as many threads at a time as [`Options::workers`](crate::Options::workers) says.
pub trait Segments: Send + Sync + 'static {
    /// The models, and what they run on.
    fn segmenter(&self) -> &Segmenter;

    /// Segments a scan. The observer among the options ends it for a client that has hung up.
    ///
    /// # Errors
    /// As [`Segmenter::segment`]. A panic is answered with 500 and ends nothing else.
    fn segment(&self, image: Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        self.segmenter().segment_owned(image, options)
    }
}

impl Segments for Segmenter {
    fn segmenter(&self) -> &Segmenter {
        self
    }
}
