//! Finds the least of a smooth function plus an L1 term: L-BFGS, and OWL-QN (Andrew & Gao, 2007) where there is an L1 term.
//!
//! Own, since what is taken from it is small and what must hold is strict: equal input takes equal steps to equal bits, on one
//! thread. Pure: whoever calls says when to give up.

/// How many steps are remembered.
const MEMORY: usize = 10;

/// What is minimised.
pub(super) trait Objective {
    /// The smooth part at `x`; its gradient goes into `gradient`.
    fn at(&self, x: &[f64], gradient: &mut [f64]) -> f64;
    /// The L1 factor of a coordinate.
    fn l1(&self, coordinate: usize) -> f64;
    /// Whether to give up: asked once a step.
    fn is_cancelled(&self) -> bool;
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ended {
    /// Steps taken.
    pub(super) steps: u32,
    /// The value.
    pub(super) value: f64,
    /// Whether the (pseudo-)gradient vanished, or the value could not be made smaller any more.
    pub(super) converged: bool,
}

/// Minimises from `x` on, in place; `None` when it was cancelled.
pub(super) fn minimise(
    objective: &impl Objective,
    x: &mut Vec<f64>,
    steps: u32,
    tolerance: f64,
) -> Option<Ended> {
    let n = x.len();
    let l1: Vec<f64> = (0..n).map(|i| objective.l1(i)).collect();
    let mut gradient = vec![0.0; n];
    let mut value = objective.at(x, &mut gradient) + norm_1(x, &l1);
    let mut pairs: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
    for step in 0..steps {
        if objective.is_cancelled() {
            return None;
        }
        let pseudo = pseudo_gradient(x, &gradient, &l1);
        if pseudo.iter().fold(0.0_f64, |top, g| top.max(g.abs())) <= tolerance {
            return Some(Ended { steps: step, value, converged: true });
        }
        let mut direction = two_loops(&pseudo, &pairs);
        if l1.iter().any(|w| *w > 0.0) {
            // Where the direction would climb, it rests.
            for (d, g) in direction.iter_mut().zip(&pseudo) {
                if *d * *g >= 0.0 {
                    *d = 0.0;
                }
            }
        }
        let first = if pairs.is_empty() { 1.0 / norm_2(&pseudo).max(1e-12) } else { 1.0 };
        let search = Search { objective, x, l1: &l1, pseudo: &pseudo, direction: &direction, value };
        let Some((next, next_gradient, next_value)) = search.run(first.min(1.0)) else {
            if pairs.is_empty() {
                return Some(Ended { steps: step, value, converged: true });
            }
            // What is remembered misleads: once more along the gradient.
            pairs.clear();
            continue;
        };
        let s: Vec<f64> = next.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&s, &y);
        if curvature > 1e-14 * dot(&y, &y).max(f64::MIN_POSITIVE) {
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push((s, y, 1.0 / curvature));
        }
        (*x, gradient, value) = (next, next_gradient, next_value);
    }
    Some(Ended { steps, value, converged: false })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn norm_2(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn norm_1(x: &[f64], l1: &[f64]) -> f64 {
    x.iter().zip(l1).map(|(x, w)| w * x.abs()).sum()
}

/// The direction of steepest ascent of the whole, at a kink the side that leads down.
fn pseudo_gradient(x: &[f64], gradient: &[f64], l1: &[f64]) -> Vec<f64> {
    let each = |((x, g), w): ((&f64, &f64), &f64)| {
        if *x > 0.0 {
            g + w
        } else if *x < 0.0 {
            g - w
        } else if g + w < 0.0 {
            g + w
        } else if g - w > 0.0 {
            g - w
        } else {
            0.0
        }
    };
    x.iter().zip(gradient).zip(l1).map(each).collect()
}

/// −H·g, with what is remembered of the curvature.
fn two_loops(gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>, f64)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for (s, y, rho) in pairs.iter().rev() {
        let alpha = rho * dot(s, &q);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((s, y, _)) = pairs.last() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, rho), alpha) in pairs.iter().zip(alphas.iter().rev()) {
        let beta = rho * dot(y, &q);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

/// Halves a step until the value has become smaller enough (Armijo), within the orthant that it began in.
struct Search<'a, O> {
    objective: &'a O,
    x: &'a [f64],
    l1: &'a [f64],
    pseudo: &'a [f64],
    direction: &'a [f64],
    value: f64,
}

impl<O: Objective> Search<'_, O> {
    fn run(&self, first: f64) -> Option<(Vec<f64>, Vec<f64>, f64)> {
        let mut length = first;
        for _ in 0..50 {
            let next = self.step(length);
            let mut gradient = vec![0.0; next.len()];
            let value = self.objective.at(&next, &mut gradient) + norm_1(&next, self.l1);
            let promised: f64 =
                next.iter().zip(self.x).zip(self.pseudo).map(|((next, x), g)| (next - x) * g).sum();
            if value.is_finite() && value < self.value && value <= self.value + 1e-4 * promised {
                return Some((next, gradient, value));
            }
            length /= 2.0;
        }
        None
    }

    fn step(&self, length: f64) -> Vec<f64> {
        let each = |(((x, d), g), w): (((&f64, &f64), &f64), &f64)| {
            let next = x + length * d;
            let orthant = if *x == 0.0 { -g } else { *x };
            if *w > 0.0 && next * orthant <= 0.0 { 0.0 } else { next }
        };
        self.x.iter().zip(self.direction).zip(self.pseudo).zip(self.l1).map(each).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Σ aᵢ (xᵢ − bᵢ)² / 2 + Σ w |xᵢ|, whose least is known: soft thresholding.
    struct Bowl {
        a: Vec<f64>,
        b: Vec<f64>,
        w: f64,
    }

    impl Objective for Bowl {
        fn at(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
            let mut value = 0.0;
            for (((x, a), b), g) in x.iter().zip(&self.a).zip(&self.b).zip(gradient) {
                *g = a * (x - b);
                value += a * (x - b).powi(2) / 2.0;
            }
            value
        }
        fn l1(&self, _: usize) -> f64 {
            self.w
        }
        fn is_cancelled(&self) -> bool {
            false
        }
    }

    proptest! {
        #[test]
        fn the_least_of_a_bowl_is_found_with_and_without_a_kink(
            terms in prop::collection::vec((0.1..50.0_f64, -3.0..3.0_f64), 1..12), w in prop_oneof![Just(0.0), 0.01..2.0_f64],
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = terms.into_iter().unzip();
            let mut x = vec![0.0; a.len()];
            let bowl = Bowl { a: a.clone(), b: b.clone(), w };
            let ended = minimise(&bowl, &mut x, 2000, 1e-9).unwrap();
            prop_assert!(ended.converged);
            for ((x, a), b) in x.iter().zip(&a).zip(&b) {
                let least = b.signum() * (b.abs() - w / a).max(0.0);
                prop_assert!((x - least).abs() < 1e-5, "{x} and {least}");
            }
        }
    }
}
