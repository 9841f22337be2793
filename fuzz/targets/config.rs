//! The configuration: any bytes; when no problem is found, every pipeline's graph builds.
#![no_main]
use std::path::Path;

use forebay::config::{self, Env, problem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = Path::new(".");
    let env: Env = [("KEY", "a secret"), ("N", "4")].into_iter().collect();
    let registry = forebay::wiring::kinds_for_check(folder);
    let checked = config::check(bytes, folder, &env, &registry);
    let _ = problem::render(config::FILE, &checked.shown, &checked.problems);
    assert_eq!(checked.config.is_some(), checked.problems.is_empty(), "{:?}", checked.problems);
    for (name, p) in checked.config.iter().flat_map(|c| &c.pipelines) {
        if let Err(found) = pipeline::check(&p.spec(), &registry) {
            panic!("`{name}` passed the check of the file and has no graph: {found:?}");
        }
    }
});
