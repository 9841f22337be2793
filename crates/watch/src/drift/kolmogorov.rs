//! How likely a Kolmogorov–Smirnov distance is when nothing has changed: exactly for two samples, and by the one-sample
//! distribution for large ones. Each case by the method that is accurate there, as Simard and L'Ecuyer (2011) chose them.

use std::f64::consts::PI;

/// Up to here both tails are summed term by term; above, by an expansion whose error is below 1e-9.
const SUMMED: u64 = 50_000;

/// Two samples: the share of all orders of `n + m` values whose distance is at least `h / lcm(n, m)`.
///
/// A path from `(0, 0)` to `(n, m)` leaves the band with the probability that its last step came from a path that had
/// left it. O(`n · m · distance`) time, O(`m`) memory.
pub(super) fn two_samples_exact(n: u64, m: u64, h: u64) -> f64 {
    if h == 0 || n == 0 || m == 0 {
        return 1.0;
    }
    if n == m {
        return equal_sizes(n, h);
    }
    let (n, m) = (n.max(m), n.min(m));
    let g = gcd(n, m);
    let (a, b) = ((n / g) as i128, (m / g) as i128);
    let (h, wide) = (i128::from(h), m as usize);
    // left[j]: probability of having been outside on the way to (i, j).
    let mut left = vec![0.0f64; wide + 1];
    for (j, p) in left.iter_mut().enumerate() {
        *p = f64::from(u8::from(j as i128 * a >= h));
    }
    for i in 1..=n {
        // Inside: |i·b − j·a| < h.
        let from = ((i128::from(i) * b - h).div_euclid(a) + 1).max(0) as usize;
        let upto = ((i128::from(i) * b + h - 1).div_euclid(a)).min(m as i128);
        if upto < from as i128 {
            return 1.0;
        }
        let upto = upto as usize;
        let mut below = if from == 0 { 0.0 } else { 1.0 };
        if let Some(outside) = from.checked_sub(1).and_then(|j| left.get_mut(j)) {
            *outside = 1.0;
        }
        if let Some(band) = left.get_mut(from..=upto) {
            for (step, p) in band.iter_mut().enumerate() {
                let (i, j) = (i as f64, (from + step) as f64);
                *p = (i * *p + j * below) / (i + j);
                below = *p;
            }
        }
        if let Some(outside) = left.get_mut(upto + 1) {
            *outside = 1.0;
        }
    }
    left.last().copied().unwrap_or(1.0).clamp(0.0, 1.0)
}

/// Two samples of one size `n` with a distance of `h / n`: 2 Σ (−1)^(k+1) C(2n, n−kh) / C(2n, n), from the inside out.
fn equal_sizes(n: u64, h: u64) -> f64 {
    let mut p = 0.0;
    for k in (0..=n / h).rev() {
        let ratio =
            (0..h).fold(1.0, |r, j| r * (n - k * h).saturating_sub(j) as f64 / (n + k * h + j + 1) as f64);
        p = ratio * (1.0 - p);
    }
    (2.0 * p).clamp(0.0, 1.0)
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One sample of `n`: the probability of a two-sided distance above `x`.
pub(super) fn one_sample_tail(n: u64, x: f64) -> f64 {
    let nf = n as f64;
    let t = nf * x;
    let square = t * x;
    let tail = if n == 0 || t <= 0.5 || (n > 140 && square < 0.04) {
        // At x √n = 0.2 no more than 1e-12 lies below.
        1.0
    } else if x >= 1.0 {
        0.0
    } else if t <= 1.0 {
        // Ruben and Gambino: n! ((2t − 1) / n)^n.
        let log = (1..=n).map(|i| (i as f64 / nf).ln()).sum::<f64>() + nf * (2.0 * t - 1.0).ln();
        1.0 - log.exp()
    } else if t >= nf - 1.0 {
        2.0 * (1.0 - x).powf(nf)
    } else if x >= 0.5 || (n <= 140 && square > 4.0) || (n > 140 && square >= 2.2) {
        if square >= 370.0 { 0.0 } else { 2.0 * one_sided_tail(n, x) }
    } else if n <= 140 || (n <= 100_000 && nf * x.powf(1.5) <= 1.4) {
        1.0 - durbin(n, x)
    } else {
        1.0 - pelz_good(nf, x)
    };
    tail.clamp(0.0, 1.0)
}

/// P(D⁺ > x). Up to [`SUMMED`] values the finite sum of Birnbaum and Tingey (1951), above it the expansion of Lauwerier
/// (1963).
fn one_sided_tail(n: u64, x: f64) -> f64 {
    let nf = n as f64;
    if n > SUMMED {
        let (z, root) = (x * nf.sqrt(), nf.sqrt());
        let z2 = z * z;
        let terms = 1.0 - 2.0 * z / (3.0 * root)
            + 2.0 * z2 / (3.0 * nf) * (1.0 - 2.0 * z2 / 3.0)
            + 4.0 * z / (9.0 * nf * root) * (0.2 - 19.0 * z2 / 15.0 + 2.0 * z2 * z2 / 3.0);
        return ((-2.0 * z2).exp() * terms).max(0.0);
    }
    let last = (nf * (1.0 - x)).floor() as u64;
    let mut choose = 0.0; // ln C(n, j)
    let mut sum = 0.0;
    for j in 0..=last.min(n) {
        let jf = j as f64;
        if j > 0 {
            choose += ((nf - jf + 1.0) / jf).ln();
        }
        let (rest, above) = (1.0 - x - jf / nf, x + jf / nf);
        let log = if n == j { 0.0 } else { (nf - jf) * rest.max(0.0).ln() };
        sum += (choose + log + (jf - 1.0) * above.ln()).exp();
    }
    x * sum
}

/// Durbin's matrix by Marsaglia, Tsang and Wang (2003): P(D ≤ x), exactly; O(k³ log n) for `k` about `n · x`.
fn durbin(n: u64, x: f64) -> f64 {
    let t = n as f64 * x;
    let k = t.floor() as usize + 1;
    let (size, h) = (2 * k - 1, k as f64 - t);
    let mut base = Square::new(size);
    for i in 0..size {
        for j in 0..size.min(i + 2) {
            base.set(i, j, 1.0);
        }
    }
    for i in 0..size {
        let power = h.powi(i as i32 + 1);
        base.set(i, 0, base.get(i, 0) - power);
        let row = base.get(size - 1, i) - h.powi((size - i) as i32);
        base.set(size - 1, i, row);
    }
    if 2.0 * h - 1.0 > 0.0 {
        base.set(size - 1, 0, base.get(size - 1, 0) + (2.0 * h - 1.0).powi(size as i32));
    }
    for i in 0..size {
        for j in 0..size.min(i + 2) {
            let factorial: f64 = (1..=(i + 1 - j)).map(|g| g as f64).product();
            base.set(i, j, base.get(i, j) / factorial);
        }
    }
    let (power, mut exponent) = base.power(n);
    let mut p = power.get(k - 1, k - 1);
    for i in 1..=n {
        p *= i as f64 / n as f64;
        if p < 1e-140 {
            p *= 1e140;
            exponent -= 140;
        }
    }
    p * 10f64.powi(exponent)
}

/// A square matrix, by rows.
#[derive(Clone)]
struct Square {
    size: usize,
    cells: Vec<f64>,
}

impl Square {
    fn new(size: usize) -> Self {
        Square { size, cells: vec![0.0; size * size] }
    }

    fn get(&self, i: usize, j: usize) -> f64 {
        self.cells.get(i * self.size + j).copied().unwrap_or(0.0)
    }

    fn set(&mut self, i: usize, j: usize, value: f64) {
        if let Some(cell) = self.cells.get_mut(i * self.size + j) {
            *cell = value;
        }
    }

    fn times(&self, other: &Square) -> Square {
        let mut product = Square::new(self.size);
        for (row, out) in self.cells.chunks(self.size).zip(product.cells.chunks_mut(self.size)) {
            for (&factor, theirs) in row.iter().zip(other.cells.chunks(self.size)) {
                out.iter_mut().zip(theirs).for_each(|(sum, cell)| *sum += factor * cell);
            }
        }
        product
    }

    /// The `n`th power, as a matrix and a power of ten.
    fn power(&self, n: u64) -> (Square, i32) {
        if n <= 1 {
            return (self.clone(), 0);
        }
        let (half, e) = self.power(n / 2);
        let (mut square, mut exponent) = (half.times(&half), 2 * e);
        if n % 2 == 1 {
            square = self.times(&square);
        }
        let middle = square.get(self.size / 2, self.size / 2);
        if middle > 1e140 {
            square.cells.iter_mut().for_each(|cell| *cell *= 1e-140);
            exponent += 140;
        }
        (square, exponent)
    }
}

/// Pelz and Good (1976): P(D ≤ x) up to terms of n^(−3/2), in the form that converges for small `x √n`.
fn pelz_good(n: f64, x: f64) -> f64 {
    let root = n.sqrt();
    let z = x * root;
    let (z2, z4, z6) = (z * z, z.powi(4), z.powi(6));
    let p2 = PI * PI;
    let (mut k0, mut k1, mut k2, mut k3) = (0.0, 0.0, 0.0, 0.0);
    let mut terms = (16.0 * z / PI).ceil().max(1.0);
    while terms >= 1.0 {
        let m2 = (2.0 * terms - 1.0).powi(2);
        let (m4, m6) = (m2 * m2, m2 * m2 * m2);
        let e = (-m2 * p2 / (8.0 * z2)).exp();
        k0 += e;
        k1 += (p2 / 4.0 * m2 - z2) * e;
        k2 += (6.0 * z6
            + 2.0 * z4
            + p2 / 4.0 * (2.0 * z4 - 5.0 * z2) * m2
            + p2 * p2 / 16.0 * (1.0 - 2.0 * z2) * m4)
            * e;
        k3 += (-30.0 * z6 - 90.0 * z6 * z2
            + p2 / 4.0 * (135.0 * z4 - 96.0 * z6) * m2
            + p2 * p2 / 16.0 * (212.0 * z4 - 60.0 * z2) * m4
            + p2.powi(3) / 64.0 * (5.0 - 30.0 * z2) * m6)
            * e;
        let whole = terms * terms;
        let e = (-whole * p2 / (2.0 * z2)).exp();
        k2 -= 2.0 * z4 * p2 * whole * e;
        k3 += 30.0 * z4 * (3.0 * p2 * whole * z2 - p2 * p2 * whole * whole) * e;
        terms -= 1.0;
    }
    let scale = (2.0 * PI).sqrt();
    scale * (k0 / z + k1 / (6.0 * z4 * root) + k2 / (72.0 * z6 * z * n) + k3 / (6480.0 * z6 * z4 * n * root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_of_one_sample_equals_scipy() {
        let rows: Vec<(u64, f64, f64)> =
            serde_json::from_str(include_str!("../../oracles/kolmogorov.json")).unwrap();
        for &(n, x, expected) in &rows {
            let p = one_sample_tail(n, x);
            assert!((p - expected).abs() < 1e-9, "n = {n}, x = {x}: {p:e} instead of {expected:e}");
            if expected < 1e-3 && expected > 1e-300 {
                assert!(
                    (p / expected - 1.0).abs() < if n > SUMMED { 1e-4 } else { 1e-8 },
                    "n = {n}, x = {x}: {p:e} instead of {expected:e}"
                );
            }
        }
        assert!(rows.len() > 150);
    }

    proptest::proptest! {
        #[test]
        fn a_larger_distance_is_never_likelier(n in 1u64..3_000, x in 0.0..1.0f64, more in 0.0..0.1f64) {
            let (near, far) = (one_sample_tail(n, x), one_sample_tail(n, (x + more).min(1.0)));
            proptest::prop_assert!((0.0..=1.0).contains(&near) && (0.0..=1.0).contains(&far));
            // Where one method follows another they differ by as much as the limit law is off.
            proptest::prop_assert!(far <= near + 1e-5, "{far} > {near}");
        }

        #[test]
        fn both_ways_of_counting_orders_agree(n in 1u64..60, m in 1u64..60, h in 1u64..200) {
            let p = two_samples_exact(n, m, h);
            proptest::prop_assert!((0.0..=1.0).contains(&p));
            proptest::prop_assert!((p - two_samples_exact(m, n, h)).abs() < 1e-12);
            proptest::prop_assert!(two_samples_exact(n, m, h + 1) <= p + 1e-12);
        }
    }
}
