//! Open files: every request under way has a connection, and a connection is a file.

use crate::Error;

/// Files of the program itself.
#[cfg(target_os = "linux")]
const OWN: u64 = 64;

/// Raises this process's limit on open files as far as it may; how many requests can be under way with it.
#[cfg(target_os = "linux")]
pub(super) fn make_room(in_flight: u32) -> Result<usize, Error> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    // Half as many again: connections that stood when their request had found another.
    let wanted = u64::from(in_flight) * 3 / 2 + 2 + OWN;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut may = current.unwrap_or(u64::MAX);
    if may < wanted {
        let most = maximum.map_or(wanted, |m| m.min(wanted));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).is_ok() {
            may = most;
        }
    }
    let room = may.saturating_sub(OWN).saturating_mul(2) / 3;
    if room == 0 {
        return Err(Error::new(
            format!("this user may open {may} files, which is not enough"),
            "raise the limit: `ulimit -n 4096`",
        ));
    }
    Ok(usize::try_from(u64::from(in_flight).min(room)).unwrap_or(usize::MAX))
}

/// How many requests can be under way: as many as wanted, as far as is known.
#[cfg(not(target_os = "linux"))]
pub(super) fn make_room(in_flight: u32) -> Result<usize, Error> {
    Ok(usize::try_from(in_flight).unwrap_or(usize::MAX))
}
