//! Tests of two shares of the same rows, from the rows that only one of the two models got right.

use statrs::distribution::{Binomial, DiscreteCDF};

use super::normal_quantile;

/// McNemar's test of no difference: exact below 25 rows that differ, χ² with continuity correction from there on (as statsmodels).
/// Two-sided. `gained` rows only the challenger has right, `lost` only the champion.
pub fn mcnemar(gained: f64, lost: f64) -> f64 {
    let differ = gained + lost;
    if differ == 0.0 {
        return 1.0;
    }
    if differ < 25.0 {
        let Ok(even) = Binomial::new(0.5, differ as u64) else { return 1.0 };
        return (2.0 * even.cdf(gained.min(lost) as u64)).min(1.0);
    }
    let statistic = ((gained - lost).abs() - 1.0).max(0.0).powi(2) / differ;
    // χ² with one degree of freedom is a normal, squared.
    statrs::function::erf::erfc((statistic / 2.0).sqrt())
}

/// Tango's score statistic of "the share that is right differs by `delta`", a standard normal where that is so: T. Tango, Statistics
/// in Medicine 17 (1998), with the constrained estimate in closed form. At `delta` zero its square is McNemar's, uncorrected.
pub fn tango(n: f64, gained: f64, lost: f64, delta: f64) -> f64 {
    // The likelihood's root under the constraint: 2n·q² + b·q + c = 0.
    let b = -gained - lost + (2.0 * n - gained + lost) * delta;
    let c = -lost * delta * (1.0 - delta);
    let q = ((b * b - 8.0 * n * c).max(0.0).sqrt() - b) / (4.0 * n);
    let (top, variance) = (gained - lost - n * delta, n * (2.0 * q + delta * (1.0 - delta)));
    if variance > 0.0 {
        top / variance.sqrt()
    } else if top == 0.0 {
        0.0
    } else {
        top.signum() * f64::INFINITY
    }
}

/// The lower end of the one-sided interval of the difference: where the score test is just passed. By bisection to 1e-12.
pub fn tango_bound(n: f64, gained: f64, lost: f64, alpha: f64) -> f64 {
    let wanted = normal_quantile(1.0 - alpha);
    let (mut low, mut high) = (-1.0, (gained - lost) / n);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if tango(n, gained, lost, middle) > wanted { low = middle } else { high = middle }
    }
    low
}
