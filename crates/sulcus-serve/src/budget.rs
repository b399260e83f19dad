//! Bytes of bodies that may be held at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by all requests.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    held: AtomicU64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, held: AtomicU64::new(0) }
    }

    /// Bytes that are held now.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// One request's share, given back when it goes.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    pub(crate) fn empty(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes more, if there is any: by what has come, never by what was announced, so that a client that announces much and
    /// sends nothing keeps nobody out.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let within = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.budget.most);
        let taken = self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_given_and_all_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let (mut a, mut b) = (Lease::empty(&budget), Lease::empty(&budget));
        assert!(a.grow(6) && !b.grow(5) && b.grow(4) && !a.grow(1) && !a.grow(u64::MAX));
        assert_eq!(budget.held(), 10);
        drop(a);
        assert!(b.grow(6) && budget.held() == 10);
        drop(b);
        assert_eq!(budget.held(), 0);
    }
}
