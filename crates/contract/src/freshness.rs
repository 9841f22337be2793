//! What a caller allows of caches: how old an answer may be, and whether this one may be kept.

use std::time::Duration;

/// What a request's `Cache-Control` says, for answers of models that are kept. The default allows everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Nothing of it is kept, and nothing kept answers it (`no-store`).
    pub no_store: bool,
    /// An answer older than this does not do; zero (`no-cache`) means a new one, which may be kept.
    pub max_age: Option<Duration>,
}

impl Freshness {
    /// Reads one value of `Cache-Control` over what other values of it said. Unknown directives say nothing.
    #[must_use]
    pub fn and(mut self, header: &str) -> Self {
        for directive in header.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            let age = if name.eq_ignore_ascii_case("no-store") {
                self.no_store = true;
                None
            } else if name.eq_ignore_ascii_case("no-cache") {
                Some(0)
            } else if name.eq_ignore_ascii_case("max-age") {
                // What cannot be read is stale: who limits an age does not want any age.
                Some(value.trim().trim_matches('"').parse().unwrap_or(0))
            } else {
                None
            };
            if let Some(age) = age.map(Duration::from_secs) {
                self.max_age = Some(self.max_age.map_or(age, |a| a.min(age)));
            }
        }
        self
    }

    /// Whether an answer of this age does.
    pub fn takes(&self, age: Duration) -> bool {
        !self.no_store && self.max_age.is_none_or(|most| !most.is_zero() && age <= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_whatever_their_case_and_the_strictest_holds() {
        let read = |h: &str| Freshness::default().and(h);
        let age = |s| Freshness { max_age: Some(Duration::from_secs(s)), ..Freshness::default() };
        assert_eq!(read("public, s-maxage=3"), Freshness::default());
        assert_eq!(read("No-Cache"), age(0));
        assert_eq!(read("max-age=60 , max-age=\"30\""), age(30));
        assert_eq!(read("max-age=soon"), age(0));
        assert_eq!(read("max-age=60").and("no-cache"), age(0));
        assert_eq!(read("no-store,max-age=5"), Freshness { no_store: true, ..age(5) });
    }

    #[test]
    fn an_answer_does_up_to_its_age() {
        let day = Duration::from_secs(86_400);
        assert!(Freshness::default().takes(day));
        let minute = Freshness::default().and("max-age=60");
        assert!(minute.takes(Duration::from_secs(60)) && !minute.takes(Duration::from_secs(61)));
        assert!(!Freshness::default().and("no-cache").takes(Duration::ZERO));
        assert!(!Freshness::default().and("no-store").takes(Duration::ZERO));
    }
}
