//! A model in several sessions with fewer threads each, which predict several tiles at the same time.
//!
//! Some operations of a network use one thread, however many the session has, above all instance normalisation: one core
//! is then idle in a session with two threads, while two sessions with one thread each keep both cores busy. On two
//! cores, two sessions are a fifth faster for 3-D networks. A slice of a 2-D network takes only a few milliseconds and
//! gains nothing. Every session needs a workspace of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::custom::SharedPredictor;
use crate::Error;

type Sessions = Vec<Box<dyn SharedPredictor>>;
type Make = Box<dyn Fn() -> Result<Sessions, Error> + Send + Sync>;

/// The sessions of a model, created when a scan first uses them.
pub(crate) struct SessionPool {
    count: usize,
    make: Make,
    predictor: Mutex<Option<Arc<PooledPredictor>>>,
}

impl SessionPool {
    /// `make` creates `count` sessions.
    #[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "tract shares one plan among threads"))]
    pub(crate) fn new(count: usize, make: Make) -> Self {
        Self { count, make, predictor: Mutex::new(None) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All sessions as one predictor, which as many threads can use at the same time.
    ///
    /// # Errors
    /// When the engine refuses another session.
    pub(crate) fn predictor(&self) -> Result<Arc<PooledPredictor>, Error> {
        let mut predictor = self.predictor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = &*predictor {
            return Ok(Arc::clone(existing));
        }
        let created = Arc::new(PooledPredictor { free: Mutex::new((self.make)()?), returned: Condvar::new() });
        Ok(Arc::clone(predictor.insert(created)))
    }

    /// Frees the memory of the sessions for a scan that needs it. A later scan creates them again.
    pub(crate) fn release(&self) {
        self.predictor.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Runs each call on a free session, and waits for one if all are busy.
pub(crate) struct PooledPredictor {
    free: Mutex<Sessions>,
    returned: Condvar,
}

/// A session that returns to the pool when its call ends, also after an error or a panic.
struct SessionGuard<'a> {
    pool: &'a PooledPredictor,
    session: Option<Box<dyn SharedPredictor>>,
}

impl PooledPredictor {
    fn take(&self) -> SessionGuard<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.returned.wait_while(free, |free| free.is_empty()).unwrap_or_else(PoisonError::into_inner);
        SessionGuard { pool: self, session: free.pop() }
    }
}

impl Drop for SessionGuard<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            self.pool.returned.notify_one();
        }
    }
}

impl Predictor for PooledPredictor {
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

    /// Records how many instances run at the same time, and fails for negative input.
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
    fn each_session_runs_one_call_at_a_time_and_returns_after_a_failure() {
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (b, m) = (Arc::clone(&busy), Arc::clone(&most));
        let make = move || {
            let one =
                || Box::new(Counting { busy: Arc::clone(&b), most: Arc::clone(&m) }) as Box<dyn SharedPredictor>;
            Ok(vec![one(), one()])
        };
        let sessions = SessionPool::new(2, Box::new(make));
        let pool = sessions.predictor().unwrap();
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
        assert!(Arc::ptr_eq(&pool, &sessions.predictor().unwrap()), "sessions are created once");
        sessions.release();
        assert_eq!(Arc::strong_count(&pool), 1);
        assert!(!Arc::ptr_eq(&pool, &sessions.predictor().unwrap()));
        assert_eq!((busy.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 2));
    }
}
