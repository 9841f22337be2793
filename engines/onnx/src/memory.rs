//! About how much memory a model takes: by how much the process grew while it was loaded.

use parking_lot::Mutex;

/// One load at a time, so that the growth is its own.
static LOADING: Mutex<()> = Mutex::new(());

/// Runs a load; by how many bytes the process is larger after it, as far as the system tells.
pub(crate) fn grown_by<T>(load: impl FnOnce() -> T) -> (T, u64) {
    let _alone = LOADING.lock();
    let before = resident();
    let loaded = load();
    (loaded, resident().saturating_sub(before))
}

fn resident() -> u64 {
    const PAGE: u64 = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE)
}
