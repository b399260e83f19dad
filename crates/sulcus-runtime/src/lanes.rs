//! A model in several sessions of fewer threads, which answer several tiles at the same time.
//!
//! Some operations of a network run on one thread whatever is asked of them, instance normalisation first. While one
//! session of two threads is at these a processor is idle; of two sessions with a thread each the other one has work. Of
//! 3-D networks, whose tiles take long, two sessions answer a fifth faster on two processors. A slice of a 2-D network
//! takes a few milliseconds and gains nothing, and each session needs memory of its own to work in.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use crate::RuntimeError;
use crate::segmenter::SharedPredictor;

/// Tiles that a scan must have for each session: what the last ones leave idle is to stay small beside the gain.
pub(crate) const LEAST_TILES: usize = 2;

type Sessions = Vec<Box<dyn SharedPredictor>>;
type Make = Box<dyn Fn() -> Result<Sessions, RuntimeError> + Send + Sync>;

/// The sessions, made when a scan has use for them.
pub(crate) struct SessionPool {
    count: usize,
    make: Make,
    made: Mutex<Option<Arc<Pool>>>,
}

impl SessionPool {
    /// `make` gives `count` sessions.
    #[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "tract shares one plan among threads"))]
    pub(crate) fn new(count: usize, make: Make) -> Self {
        Self { count, make, made: Mutex::new(None) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All sessions as one predictor for as many threads.
    ///
    /// # Errors
    /// When the engine refuses another session.
    pub(crate) fn pool(&self) -> Result<Arc<Pool>, RuntimeError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = &*made {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool { free: Mutex::new((self.make)()?), returned: Condvar::new() });
        Ok(Arc::clone(made.insert(pool)))
    }

    /// Gives their memory back, for a scan that needs it. Another scan makes them again.
    pub(crate) fn release(&self) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Gives each call a session that is free, and waits for one where there is none.
pub(crate) struct Pool {
    free: Mutex<Sessions>,
    returned: Condvar,
}

/// A session that goes back when its call is over, however that ends.
struct Taken<'a> {
    pool: &'a Pool,
    session: Option<Box<dyn SharedPredictor>>,
}

impl Pool {
    fn take(&self) -> Taken<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.returned.wait_while(free, |free| free.is_empty()).unwrap_or_else(PoisonError::into_inner);
        Taken { pool: self, session: free.pop() }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            self.pool.returned.notify_one();
        }
    }
}

impl Predictor for Pool {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        match self.take().session.as_deref() {
            Some(session) => session.logits(input),
            None => Err(PredictorError { engine: "no", message: "no session is free".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Says how many of its kind are asked at the same time, and fails for negative input.
    struct Counting {
        busy: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Predictor for Counting {
        fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
            let now = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.busy.fetch_sub(1, Ordering::SeqCst);
            match input.data() {
                [v] if *v < 0.0 => Err(PredictorError { engine: "test", message: "negative".into() }),
                _ => Ok(input),
            }
        }
    }

    #[test]
    fn each_session_answers_one_call_at_a_time_and_comes_back_after_a_failure() {
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (b, m) = (Arc::clone(&busy), Arc::clone(&most));
        let make = move || {
            let one =
                || Box::new(Counting { busy: Arc::clone(&b), most: Arc::clone(&m) }) as Box<dyn SharedPredictor>;
            Ok(vec![one(), one()])
        };
        let session_pool = SessionPool::new(2, Box::new(make));
        let pool = session_pool.pool().unwrap();
        std::thread::scope(|scope| {
            let pool = &pool;
            for i in 0..6_u8 {
                scope.spawn(move || {
                    let value = f32::from(i) - 2.0;
                    let answer = pool.logits(Tensor::new(vec![1], vec![value]).unwrap());
                    assert_eq!(answer.is_err(), value < 0.0);
                });
            }
        });
        assert!(Arc::ptr_eq(&pool, &session_pool.pool().unwrap()), "they are made once");
        session_pool.release();
        assert_eq!(Arc::strong_count(&pool), 1);
        assert!(!Arc::ptr_eq(&pool, &session_pool.pool().unwrap()));
        assert_eq!((busy.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 2));
    }
}
