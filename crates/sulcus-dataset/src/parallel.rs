use rayon::prelude::*;

/// Every item may hold a whole scan in memory, so more threads would need too much memory.
const MAX_THREADS: usize = 8;

/// Applies `f` to each item on up to eight threads. The results have the order of the items.
pub fn map_parallel<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len()).min(MAX_THREADS);
    if threads < 2 {
        return items.iter().map(f).collect();
    }
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(|| items.par_iter().with_max_len(1).map(&f).collect()),
        Err(error) => {
            tracing::warn!("no threads could be started, cases are read one by one: {error}");
            items.iter().map(f).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..1000).collect();
        assert_eq!(super::map_parallel(&items, |v| v * v), items.iter().map(|v| v * v).collect::<Vec<_>>());
        assert_eq!(super::map_parallel(&[] as &[u64], |v| *v), [] as [u64; 0]);
    }
}
