//! What of a configuration cannot be: everything at once, each with its place and what to do.

use pipeline::Problem;

use super::config::{By, GbdtConfig, Part, SearchConfig, TrainConfig};

/// Everything that is wrong with a configuration.
pub fn problems(config: &TrainConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut say = |pointer: &str, message: &str, remedy: &str| {
        found.push(Problem { pointer: pointer.into(), message: message.into(), remedy: remedy.into() });
    };
    if config.adopted.is_none() && config.gbdt.is_some() == config.linear.is_some() {
        say("", "one trainer is needed, and only one", "keep one of `gbdt` and `linear`");
    }
    let split = &config.split;
    if split.by == By::Time && config.time.is_none() {
        say("/split/by", "a split by time needs to know when rows happened", "add `time: COLUMN`");
    }
    if split.by == By::Group && config.group.is_none() {
        say("/split/by", "a split by group needs to know what rows belong to", "add `group: COLUMN`");
    }
    let length = |part: &Part| matches!(part, Part::Last(_));
    if split.by != By::Time
        && (length(&split.holdout) || split.validation.as_ref().is_some_and(length) || split.gap.is_some())
    {
        say(
            "/split",
            "lengths of time mean something for a split by time alone",
            "say `by: time`, or give shares",
        );
    }
    if config.search.is_some() && config.folds.is_none() && split.validation.is_none() {
        say("/search", "a search has nothing to go by", "add `split.validation`, or `folds`");
    }
    if config.folds.is_some_and(|folds| !(2..=50).contains(&folds)) {
        say("/folds", "there are between 2 and 50 folds", "write 5");
    }
    if let Some(gbdt) = &config.gbdt {
        trees(gbdt, &mut say);
    }
    if let Some(linear) = &config.linear
        && (!(0.0..=1e6).contains(&linear.l1) || !(0.0..=1e6).contains(&linear.l2) || linear.steps == 0)
    {
        say(
            "/linear",
            "regularisation is not negative, and there is at least one step",
            "leave it out for the usual",
        );
    }
    if let Some(search) = &config.search {
        tuned(search, &mut say);
    }
    found
}

fn trees(gbdt: &GbdtConfig, say: &mut impl FnMut(&str, &str, &str)) {
    let share = |x: f64| x > 0.0 && x <= 1.0;
    let weight = |x: f64| (0.0..=1e9).contains(&x);
    let rules: [(bool, &str, &str, &str); 8] = [
        (
            (1..=100_000).contains(&gbdt.rounds),
            "/gbdt/rounds",
            "there are between 1 and 100000 rounds",
            "write 300",
        ),
        (share(gbdt.learning_rate), "/gbdt/learning_rate", "it lies above 0 and at most at 1", "write 0.1"),
        (
            (2..=131_072).contains(&gbdt.leaves),
            "/gbdt/leaves",
            "a tree has between 2 and 131072 leaves",
            "write 31",
        ),
        (share(gbdt.rows_share), "/gbdt/rows_share", "a share lies above 0 and at most at 1", "write 0.8"),
        (
            share(gbdt.columns_share),
            "/gbdt/columns_share",
            "a share lies above 0 and at most at 1",
            "write 0.8",
        ),
        (weight(gbdt.l1) && weight(gbdt.l2), "/gbdt", "regularisation is not negative", "write 0"),
        ((2..=65_535).contains(&gbdt.bins), "/gbdt/bins", "there are between 2 and 65535 bins", "write 255"),
        (gbdt.memory.0 >= 256 << 20, "/gbdt/memory", "a training takes at least 256mib", "write 4gib"),
    ];
    for (_, pointer, message, remedy) in rules.into_iter().filter(|(fine, ..)| !fine) {
        say(pointer, message, remedy);
    }
}

fn tuned(search: &SearchConfig, say: &mut impl FnMut(&str, &str, &str)) {
    if !(1..=10_000).contains(&search.trials) {
        say("/search/trials", "there are between 1 and 10000 tries", "write 30");
    }
    let tune = &search.tune;
    let all = [
        ("learning_rate", tune.learning_rate, 1.0),
        ("leaves", tune.leaves, 131_072.0),
        ("min_rows", tune.min_rows, 1e9),
        ("rows_share", tune.rows_share, 1.0),
        ("columns_share", tune.columns_share, 1.0),
        ("l1", tune.l1, 1e6),
        ("l2", tune.l2, 1e6),
    ];
    for (name, range, most) in all {
        if let Some([low, high]) = range
            && !(low > 0.0 && low <= high && high <= most)
        {
            say(
                &format!("/search/tune/{name}"),
                "the bounds lie above 0, the lower one first",
                "leave it out for the usual",
            );
        }
    }
    if tune.leaves.is_some_and(|[low, _]| low < 2.0) || tune.min_rows.is_some_and(|[low, _]| low < 1.0) {
        say("/search/tune", "a tree has two leaves at least, and a leaf a row", "raise the lower bound");
    }
}
