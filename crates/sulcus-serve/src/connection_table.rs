//! All open connections. When there are too many, the slowest one is closed, so that slow clients cannot keep others out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    pub(crate) total: usize,
    pub(crate) per_client: usize,
}

/// The open connections.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    limits: ConnectionLimits,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_number: BTreeMap<u64, (IpAddr, Arc<ConnectionActivity>)>,
    next_number: u64,
}

/// What a connection transfers at present, shared by its stream, its requests and the table.
#[derive(Debug)]
pub(crate) struct ConnectionActivity {
    state: Mutex<ActivityState>,
    closed: Notify,
}

#[derive(Debug)]
struct ActivityState {
    /// Start of the current phase: the head, the body or the response of a request.
    since: Instant,
    /// Bytes in both directions during the phase.
    bytes: u64,
    /// Whether the server, and not the client, causes the delay.
    waiting_for_server: bool,
}

/// Holds a place in the table. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct ConnectionPlace {
    table: Arc<ConnectionTable>,
    number: u64,
    activity: Arc<ConnectionActivity>,
}

/// Marks a connection as waiting for the server until it is dropped. Such a connection is never closed to make room.
#[derive(Debug)]
pub(crate) struct WaitingForServer<'a>(&'a ConnectionActivity);

impl ConnectionTable {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_number.len()
    }

    /// Adds a connection. If the client or the server has too many, the slowest of them is closed first. Returns `None` when
    /// all of them wait for the server.
    pub(crate) fn add(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPlace> {
        let client = client_of(address);
        let mut entries = self.lock();
        let of_client = entries.by_number.values().filter(|(other, _)| *other == client).count();
        if of_client >= self.limits.per_client {
            entries.close_slowest(|other| other == client)?;
        } else if entries.by_number.len() >= self.limits.total {
            entries.close_slowest(|_| true)?;
        }
        let number = entries.next_number;
        entries.next_number += 1;
        let activity = Arc::new(ConnectionActivity::new());
        entries.by_number.insert(number, (client, Arc::clone(&activity)));
        Some(ConnectionPlace { table: Arc::clone(self), number, activity })
    }

    /// Closes the slowest connection, for example when the process has no file descriptor left.
    pub(crate) fn close_slowest(&self) {
        self.lock().close_slowest(|_| true);
    }
}

impl Entries {
    /// Closes the connection with the least bytes per second among those of matching clients. A new one is closed only if all
    /// are new, and one that had no time to transfer a byte only if that is true of all.
    fn close_slowest(&mut self, matches: impl Fn(IpAddr) -> bool) -> Option<()> {
        let now = Instant::now();
        let rates = self.by_number.iter().filter(|(_, (client, _))| matches(*client));
        let rates = rates.filter_map(|(number, (_, activity))| Some((*number, activity.rate(now)?)));
        let slowest = rates.min_by(|(_, a), (_, b)| {
            let by_rate = a.bytes_per_sec.total_cmp(&b.bytes_per_sec);
            a.novelty().cmp(&b.novelty()).then(by_rate).then(b.age.cmp(&a.age))
        });
        let (number, _) = slowest?;
        let (_, activity) = self.by_number.remove(&number)?;
        activity.closed.notify_one();
        Some(())
    }
}

/// A client is an IPv4 address, or an IPv6 network of 64 bits, which one machine can use as a whole.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    bytes_per_sec: f64,
    age: Duration,
}

/// Whether the rate of a connection can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Novelty {
    Old,
    /// It has transferred bytes.
    New,
    /// It may not even have been polled.
    Silent,
}

impl Rate {
    fn novelty(&self) -> Novelty {
        const MIN_AGE: Duration = Duration::from_millis(250);
        match (self.age < MIN_AGE, self.bytes_per_sec > 0.0) {
            (false, _) => Novelty::Old,
            (true, true) => Novelty::New,
            (true, false) => Novelty::Silent,
        }
    }
}

impl ConnectionActivity {
    fn new() -> Self {
        let state = ActivityState { since: Instant::now(), bytes: 0, waiting_for_server: false };
        Self { state: Mutex::new(state), closed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts bytes in either direction.
    pub(crate) fn transferred(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_add(bytes as u64);
    }

    /// Starts the measurement anew: the head of a request is complete, or its response begins.
    pub(crate) fn begin_phase(&self) {
        let mut state = self.lock();
        (state.since, state.bytes) = (Instant::now(), 0);
    }

    /// Excludes the connection from closing until the value is dropped.
    pub(crate) fn wait_for_server(&self) -> WaitingForServer<'_> {
        self.lock().waiting_for_server = true;
        WaitingForServer(self)
    }

    /// Waits until the connection must close to make room for another one.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// `None` while the client waits for the server.
    fn rate(&self, now: Instant) -> Option<Rate> {
        /// Younger phases count as this old, so that few bytes at the start are no high rate.
        const MIN_DURATION: Duration = Duration::from_secs(1);
        let state = self.lock();
        let age = now.saturating_duration_since(state.since);
        let bytes_per_sec = state.bytes as f64 / age.max(MIN_DURATION).as_secs_f64();
        (!state.waiting_for_server).then_some(Rate { bytes_per_sec, age })
    }
}

impl Drop for WaitingForServer<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting_for_server = false;
        self.0.begin_phase();
    }
}

impl ConnectionPlace {
    pub(crate) fn activity(&self) -> &Arc<ConnectionActivity> {
        &self.activity
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.table.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(total: usize, per_client: usize) -> Arc<ConnectionTable> {
        Arc::new(ConnectionTable::new(ConnectionLimits { total, per_client }))
    }

    fn age(place: &ConnectionPlace, secs: u64, bytes: u64) {
        let mut state = place.activity.lock();
        (state.since, state.bytes) = (Instant::now().checked_sub(Duration::from_secs(secs)).unwrap(), bytes);
    }

    fn is_closed(table: &ConnectionTable, place: &ConnectionPlace) -> bool {
        !table.lock().by_number.contains_key(&place.number)
    }

    #[test]
    fn slowest_connection_makes_room_and_new_ones_are_spared() {
        let table = table(3, 9);
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let places: Vec<ConnectionPlace> = (0..3).map(|i| table.add(address(i)).unwrap()).collect();
        age(&places[0], 10, 1_000_000);
        age(&places[1], 10, 10);
        let new = table.add(address(9)).unwrap();
        assert_eq!((table.len(), is_closed(&table, &places[1])), (3, true));
        // The remaining old one is fast, but the others are too new to judge.
        let newer = table.add(address(9)).unwrap();
        assert!(is_closed(&table, &places[0]) && !is_closed(&table, &new) && !is_closed(&table, &newer));
        // All are new now. Those that have not transferred anything yet are spared.
        new.activity.transferred(10);
        newer.activity.transferred(1000);
        let newest = table.add(address(9)).unwrap();
        assert!(is_closed(&table, &new) && !is_closed(&table, &places[2]) && !is_closed(&table, &newest));
        drop((new, newer, newest));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn client_with_too_many_connections_loses_one_of_its_own() {
        let table = table(9, 2);
        let (greedy, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let slow = table.add(other).unwrap();
        age(&slow, 100, 0);
        let places: Vec<ConnectionPlace> = (0..2).map(|_| table.add(greedy).unwrap()).collect();
        age(&places[1], 10, 5);
        let _third = table.add(greedy).unwrap();
        assert!(is_closed(&table, &places[1]) && !is_closed(&table, &places[0]) && !is_closed(&table, &slow));
    }

    #[test]
    fn connections_that_wait_for_the_server_stay() {
        let table = table(1, 1);
        let address = IpAddr::from([127, 0, 0, 1]);
        let place = table.add(address).unwrap();
        age(&place, 100, 0);
        let waiting = place.activity.wait_for_server();
        assert!(table.add(address).is_none() && !is_closed(&table, &place));
        drop(waiting);
        assert!(table.add(address).is_some() && is_closed(&table, &place));
    }

    #[test]
    fn ipv6_networks_and_mapped_addresses_are_one_client() {
        let client = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(client("2001:db8:1:2:3::4"), client("2001:db8:1:2:ffff::1"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
    }
}
