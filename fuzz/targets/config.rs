//! The configuration: any bytes; when no problem is found, every pipeline's graph builds.
#![no_main]
use std::path::Path;
use std::sync::LazyLock;

use forebay::config::{self, Env, Rules, problem};
use libfuzzer_sys::fuzz_target;
use pipeline::Registry;

static KINDS: LazyLock<Registry> = LazyLock::new(|| forebay::wiring::kinds_for_check(Path::new(".")));
static RULES: LazyLock<Rules<'static>> = LazyLock::new(|| Rules::new(&KINDS));

fuzz_target!(|bytes: &[u8]| {
    let env: Env = [("KEY", "a secret"), ("N", "4")].into_iter().collect();
    let checked = RULES.check(bytes, Path::new("."), &env);
    let _ = problem::render(config::FILE, &checked.shown, &checked.problems);
    // What the file names and the folder does not hold (yet) leaves the file as it is: sound.
    let sound = checked.problems.iter().all(|p| p.absent);
    assert_eq!(checked.config.is_some(), sound, "{:?}", checked.problems);
    for (name, p) in checked.config.iter().flat_map(|c| &c.pipelines) {
        if let Err(found) = pipeline::check(&p.spec(), &KINDS) {
            panic!("`{name}` passed the check of the file and has no graph: {found:?}");
        }
    }
});
