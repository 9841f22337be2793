//! Which entry of a table is a configured model's, as LiteLLM resolves names: `provider/model`, else `model` of that
//! provider. A name at an endpoint that nobody knows has no price: a model served at home is not what its namesake is.

use contract::UnixMillis;

use super::{Dated, History};

/// Endpoints whose provider is known by their host (the host itself, or what is below it).
const HOSTS: &[(&str, &str)] = &[
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("openai.azure.com", "azure"),
    ("services.ai.azure.com", "azure_ai"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("codestral.mistral.ai", "codestral"),
    ("openrouter.ai", "openrouter"),
    ("api.together.xyz", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.deepinfra.com", "deepinfra"),
    ("api.x.ai", "xai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cerebras.ai", "cerebras"),
    ("api.sambanova.ai", "sambanova"),
    ("api.novita.ai", "novita"),
    ("api.studio.nebius.ai", "nebius"),
    ("api.hyperbolic.xyz", "hyperbolic"),
    ("dashscope-intl.aliyuncs.com", "dashscope"),
    ("dashscope.aliyuncs.com", "dashscope"),
    ("api.moonshot.ai", "moonshot"),
    ("integrate.api.nvidia.com", "nvidia_nim"),
];

/// A model as its upstream knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// `openai` or `anthropic`: the protocol.
    pub protocol: &'a str,
    /// The model's name there.
    pub model: &'a str,
    /// The endpoint, when it is not the protocol's own.
    pub base_url: Option<&'a str>,
}

/// LiteLLM's name of the provider behind an upstream, if it is one.
pub fn provider_of<'a>(upstream: Upstream<'a>) -> Option<&'a str> {
    let Some(base) = upstream.base_url else { return Some(upstream.protocol) };
    let url = url::Url::parse(base).ok()?;
    let host = url.host_str()?.to_ascii_lowercase();
    let known = |name: &str| host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    HOSTS.iter().find(|(name, _)| known(name)).map(|(_, provider)| *provider)
}

impl History {
    /// The entry that holds for an upstream at a time, with its name.
    pub fn find(&self, upstream: Upstream<'_>, when: UnixMillis) -> Option<(String, &Dated)> {
        let Upstream { model, .. } = upstream;
        let mut candidates = Vec::new();
        if let Some(provider) = provider_of(upstream) {
            candidates.push((format!("{provider}/{model}"), provider));
            candidates.push((model.to_owned(), provider));
        }
        // A name may bring its provider along, as proxies want it.
        if let Some((provider, rest)) = model.split_once('/') {
            candidates.push((model.to_owned(), provider));
            candidates.push((rest.to_owned(), provider));
        }
        candidates.into_iter().find_map(|(name, provider)| {
            let found = self.at(&name, when).filter(|d| d.entry.provider == provider)?;
            Some((name, found))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(protocol: &str, model: &str, base_url: Option<&str>) -> Option<String> {
        let entry =
            |provider: &str| format!(r#"{{"input_cost_per_token": 1e-6, "litellm_provider": "{provider}"}}"#);
        let rows: Vec<String> = [
            ("gpt-4.1-mini", "openai"),
            ("azure/gpt-4.1-mini", "azure"),
            ("claude-sonnet-4-5", "anthropic"),
            ("groq/llama-3.3-70b-versatile", "groq"),
            ("openrouter/openai/gpt-4.1-mini", "openrouter"),
        ]
        .iter()
        .map(|(name, provider)| format!(r#""{name}": {}"#, entry(provider)))
        .collect();
        let h = History::parse(&format!("{{{}}}", rows.join(","))).unwrap();
        let found = h.find(Upstream { protocol, model, base_url }, UnixMillis(0));
        found.map(|(name, _)| name)
    }

    #[test]
    fn a_model_is_found_as_litellm_resolves_it() {
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(found("openai", "gpt-4.1-mini", None), some("gpt-4.1-mini"));
        assert_eq!(found("anthropic", "claude-sonnet-4-5", None), some("claude-sonnet-4-5"));
        assert_eq!(
            found("openai", "llama-3.3-70b-versatile", Some("https://api.groq.com/openai/v1")),
            some("groq/llama-3.3-70b-versatile")
        );
        assert_eq!(
            found("openai", "gpt-4.1-mini", Some("https://us.openai.azure.com/v1")),
            some("azure/gpt-4.1-mini")
        );
        assert_eq!(
            found("openai", "openai/gpt-4.1-mini", Some("https://openrouter.ai/api/v1")),
            some("openrouter/openai/gpt-4.1-mini")
        );
        assert_eq!(
            found("openai", "openai/gpt-4.1-mini", Some("http://proxy.example/v1")),
            some("gpt-4.1-mini")
        );
    }

    #[test]
    fn a_namesake_at_an_unknown_endpoint_has_no_price() {
        assert_eq!(found("openai", "gpt-4.1-mini", Some("http://127.0.0.1:8000/v1")), None);
        assert_eq!(found("openai", "gpt-4.1-mini", Some("https://evil-api.openai.com.example/v1")), None);
        assert_eq!(found("anthropic", "gpt-4.1-mini", None), None, "another provider's model");
        assert_eq!(found("openai", "unheard-of", None), None);
    }
}
