//! Who is answered by which.

use models::rollout::{Arm, Split};
use proptest::prelude::*;

#[test]
fn shares_are_even_over_users_and_independent_over_salts() {
    let users = 100_000_u32;
    let split = Split::of(500);
    let count = |salt: &str, arm: Arm| {
        (0..users).filter(|u| split.assign(salt, &format!("user-{u}")) == arm).count() as f64
    };
    for salt in ["", "a", "m@7"] {
        for arm in [Arm::Canary, Arm::Control] {
            let off = (count(salt, arm) - 5_000.0) / (100_000.0_f64 * 0.05 * 0.95).sqrt();
            assert!(off.abs() < 4.0, "{salt} {arm:?}: {off} standard deviations");
        }
    }
    let wide = Split::of(2_500);
    let of = |salt: &str, u: u32| wide.assign(salt, &u.to_string()) == Arm::Canary;
    let both = (0..users).filter(|u| of("a", *u) && of("b", *u)).count() as f64;
    assert!((both - 6_250.0).abs() < 4.0 * (100_000.0_f64 * 0.0625 * 0.9375).sqrt(), "{both}");
}

/// Twenty parts of the places get as many users each: χ² with 19 degrees of freedom stays below its 99.99 % quantile.
#[test]
fn places_are_uniform() {
    let mut parts = [0_f64; 20];
    for user in 0..200_000 {
        let place = u128::from(models::rollout::place("s", &format!("u{user}")));
        parts[((place * 20) >> 64) as usize] += 1.0;
    }
    let chi: f64 = parts.iter().map(|n| (n - 10_000.0).powi(2) / 10_000.0).sum();
    assert!(chi < 50.8, "{chi}");
}

proptest! {
    #[test]
    fn who_is_in_at_a_share_is_in_at_every_larger_one(user in ".{0,20}", salt in ".{0,8}", a in 0_u32..=10_000, b in 0_u32..=10_000) {
        let (low, high) = (a.min(b), a.max(b));
        let at = |share| Split::of(share).assign(&salt, &user);
        if at(low) == Arm::Canary {
            prop_assert_eq!(at(high), Arm::Canary);
        }
        if high <= 5_000 && at(low) == Arm::Control {
            prop_assert_eq!(at(high), Arm::Control);
        }
        prop_assert_eq!(at(low), at(low), "sticky");
        prop_assert_eq!(at(10_000), Arm::Canary);
        prop_assert_eq!(at(0), Arm::Champion);
    }
}

/// Kept users must not move with an update of this program.
#[test]
fn places_never_change() {
    assert_eq!(models::rollout::place("salt", "user-1"), 12_167_091_392_465_463_580);
}
