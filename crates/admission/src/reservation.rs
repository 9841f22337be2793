//! How much to reserve for a request that has not run yet.
//!
//! estimate = input × price + capped output × price. The *reservation* of the output is capped, never the request: a
//! default `max_tokens` of 64k must not wall off a small budget.

use contract::{ModelName, Money, Price, Usage};

/// Tokens and money together, as budgets count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Input and output tokens.
    pub tokens: u64,
    /// Their price.
    pub money: Money,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount { tokens: 0, money: Money::ZERO };

    /// What a request has used.
    pub fn of(usage: &Usage, cost: Money) -> Amount {
        Amount { tokens: usage.total(), money: cost.max(Money::ZERO) }
    }

    /// Both together, saturating.
    #[must_use]
    pub fn plus(self, o: Amount) -> Amount {
        Amount { tokens: self.tokens.saturating_add(o.tokens), money: self.money + o.money }
    }

    /// `self` without `o`, never below nothing.
    #[must_use]
    pub fn minus(self, o: Amount) -> Amount {
        Amount { tokens: self.tokens.saturating_sub(o.tokens), money: self.money.saturating_sub(o.money) }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, o: Amount) -> Amount {
        Amount { tokens: self.tokens.max(o.tokens), money: self.money.max(o.money) }
    }
}

/// What a request may need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// The most the caller asked for; `None` when it did not say.
    pub max_output_tokens: Option<u64>,
    /// The price of the model that will most likely answer.
    pub price: Price,
    /// Whether it counts as a concurrent stream.
    pub stream: bool,
    /// The model whose limits apply too, if the caller chose one.
    pub model: Option<ModelName>,
    /// The limit of its own that the request keeps to, a pipeline's budget: it may use all of it and never more, so this
    /// is reserved, whatever the rest says.
    pub budget: Option<Amount>,
}

/// What to reserve for `demand` when at most `output_cap` output tokens are reserved.
pub fn estimate(demand: &Demand, output_cap: u64) -> Amount {
    if let Some(budget) = demand.budget {
        return budget;
    }
    let output = demand.max_output_tokens.map_or(output_cap, |m| m.min(output_cap));
    let usage = Usage { input_tokens: demand.input_tokens, output_tokens: output, ..Usage::default() };
    Amount::of(&usage, demand.price.cost(&usage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_huge_max_tokens_reserves_no_more_than_the_cap(input in 0u64..1 << 40, max in any::<Option<u64>>(), cap in 0u64..1 << 20) {
            let price = Price { input: 150_000_000, output: 600_000_000, cached_input: 0, long: None };
            let demand = Demand { input_tokens: input, max_output_tokens: max, price, ..Demand::default() };
            let reserved = estimate(&demand, cap);
            prop_assert!(reserved.tokens >= input && reserved.tokens <= input + cap);
            let most = Usage { input_tokens: input, output_tokens: cap, ..Usage::default() };
            prop_assert!(reserved.money <= price.cost(&most));
        }
    }
}
