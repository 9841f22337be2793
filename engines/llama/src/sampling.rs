//! From logits to a token: the sampler of one sequence.
//!
//! A grammar is asked about the sampled token only, and about the whole vocabulary just when it refuses that one: asking it
//! about every token each time would cost more than the model. The grammar is never part of the chain, because a chain
//! accepts a token without a way to report that the grammar cannot go on.

use llama_cpp_2::{
    context::LlamaContext,
    json_schema_to_grammar,
    model::LlamaModel,
    sampling::LlamaSampler,
    token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray},
};
use serde_json::Value;

use crate::{error::Error, protocol::ChatRequest};

/// Tokens considered when a request does not say, as in llama.cpp: the tail of a small model's vocabulary is noise.
const TOP_K: u32 = 40;
/// Tokens that the penalties look back on.
const PENALTY_WINDOW: i32 = 256;
/// llama.cpp takes this seed for "any".
const ANY_SEED: u32 = u32::MAX;

/// Chooses the tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

impl Sampler {
    /// # Errors
    /// [`Error::Invalid`] if the JSON Schema cannot be turned into a grammar.
    pub(crate) fn new(model: &LlamaModel, request: &ChatRequest) -> Result<Self, Error> {
        let grammar = request.schema()?.map(|schema| grammar(model, &schema)).transpose()?;
        let mut chain = Vec::new();
        let (presence, frequency) =
            (request.presence_penalty.unwrap_or(0.0), request.frequency_penalty.unwrap_or(0.0));
        if presence != 0.0 || frequency != 0.0 {
            chain.push(LlamaSampler::penalties(model.n_vocab(), PENALTY_WINDOW, 1.0, frequency, presence));
        }
        let temperature = request.temperature.unwrap_or(1.0);
        if temperature > 0.0 {
            let top_k = request.top_k.unwrap_or(TOP_K);
            chain.push(LlamaSampler::top_k(i32::try_from(top_k).unwrap_or(0)));
            chain.push(LlamaSampler::top_p(request.top_p.unwrap_or(1.0), 1));
            chain.push(LlamaSampler::temp(temperature));
            chain.push(LlamaSampler::dist(request.seed.map_or(ANY_SEED, fold_seed)));
        } else {
            chain.push(LlamaSampler::greedy());
        }
        Ok(Self { chain: LlamaSampler::chain(chain, true), grammar })
    }

    /// The next token, from the logits at `index` of the batch that was decoded last.
    ///
    /// # Errors
    /// [`Error::Engine`] if the grammar allows no token of the vocabulary.
    pub(crate) fn sample(&mut self, context: &LlamaContext<'_>, index: i32) -> Result<LlamaToken, Error> {
        let Some(grammar) = &mut self.grammar else {
            return Ok(self.chain.sample(context, index));
        };
        let mut token = choose(&mut self.chain, context.token_data_array_ith(index))?;
        let mut alone = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
        grammar.apply(&mut alone);
        if alone.data.first().is_none_or(|only| only.logit() == f32::NEG_INFINITY) {
            let mut allowed = context.token_data_array_ith(index);
            grammar.apply(&mut allowed);
            token = choose(&mut self.chain, allowed)?;
        }
        grammar
            .try_accept(token)
            .map_err(|_| Error::Engine("the grammar allows no token of the vocabulary".to_owned()))?;
        self.chain.accept(token);
        Ok(token)
    }
}

fn choose(chain: &mut LlamaSampler, mut candidates: LlamaTokenDataArray) -> Result<LlamaToken, Error> {
    chain.apply(&mut candidates);
    candidates.selected_token().ok_or_else(|| Error::Engine("the sampler chose no token".to_owned()))
}

fn grammar(model: &LlamaModel, schema: &Value) -> Result<LlamaSampler, Error> {
    let refused = || Error::invalid("response_format", "this JSON Schema cannot be turned into a grammar");
    let grammar = json_schema_to_grammar(&schema.to_string()).map_err(|_| refused())?;
    LlamaSampler::grammar(model, &grammar, "root").map_err(|_| refused())
}

/// A seed of 64 bits in 32, never the one that means "any".
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the bits matter, not the number"
)]
fn fold_seed(seed: i64) -> u32 {
    let folded = (seed as u64 ^ (seed as u64 >> 32)) as u32;
    folded.min(ANY_SEED - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_seed_of_a_request_means_any(seed: i64) {
            prop_assert_ne!(fold_seed(seed), ANY_SEED);
        }

        #[test]
        fn a_small_seed_is_kept(seed in 0i64..1_000_000) {
            prop_assert_eq!(i64::from(fold_seed(seed)), seed);
        }
    }
}
