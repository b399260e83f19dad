//! Places for connections. Clients without the token cannot keep them from the client that has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The connections that are open.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    max: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    /// How many were admitted so far.
    admitted: u64,
    /// By number, that is in the order in which they came.
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug, Default)]
struct Connection {
    /// None until its task runs.
    task: Option<AbortHandle>,
    /// Whether a request on it had the token.
    trusted: bool,
}

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self { max, open: Arc::default() }
    }

    /// A place for a new connection. When all are taken, the oldest connection that has shown no token is closed; when all
    /// have, there is none.
    pub(super) fn admit(&self) -> Option<Place> {
        let mut open = lock(&self.open);
        if open.connections.len() >= self.max && !open.close_oldest_stranger() {
            return None;
        }
        open.admitted += 1;
        let number = open.admitted;
        open.connections.insert(number, Connection::default());
        Some(Place { number, open: Arc::clone(&self.open) })
    }

    /// Names the task that serves a connection.
    pub(super) fn started(&self, number: u64, task: AbortHandle) {
        if let Some(connection) = lock(&self.open).connections.get_mut(&number) {
            connection.task = Some(task);
        }
    }

    /// Closes the oldest connection that has shown no token.
    pub(super) fn close_oldest_stranger(&self) {
        lock(&self.open).close_oldest_stranger();
    }
}

impl Open {
    fn close_oldest_stranger(&mut self) -> bool {
        let stranger = self.connections.iter().find(|(_, connection)| !connection.trusted);
        let Some(number) = stranger.map(|(number, _)| *number) else { return false };
        if let Some(task) = self.connections.remove(&number).and_then(|connection| connection.task) {
            task.abort();
        }
        true
    }
}

/// A connection's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    open: Arc<Mutex<Open>>,
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The client knows the token: its connection is no longer closed for another one.
    pub(super) fn trust(&self) {
        if let Some(connection) = lock(&self.open).connections.get_mut(&self.number) {
            connection.trusted = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).connections.remove(&self.number);
    }
}

/// Nothing that holds the lock can leave half a change behind.
fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_make_room_and_trusted_connections_do_not() {
        let connections = Connections::new(3);
        let open = || lock(&connections.open).connections.keys().copied().collect::<Vec<_>>();
        let places: Vec<Place> = (0..3).filter_map(|_| connections.admit()).collect();
        places[0].trust();
        let fourth = connections.admit().unwrap();
        assert_eq!(open(), [1, 3, 4]);
        places[2].trust();
        fourth.trust();
        assert!(connections.admit().is_none());
        drop(fourth);
        let fifth = connections.admit().unwrap();
        assert_eq!((fifth.number(), open()), (5, vec![1, 3, 5]));
        connections.close_oldest_stranger();
        connections.close_oldest_stranger();
        assert_eq!(open(), [1, 3]);
        drop((places, fifth));
        assert!(open().is_empty());
    }
}
