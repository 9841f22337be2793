//! Endpoints: a protocol at an address, under the provider's name of the model.

use std::path::PathBuf;

use contract::{BoxFuture, Secret};
use llm::codec::{anthropic, openai};
use llm::{Attempt, ChatModel, ChatRequest, DeltaStream};

use crate::Error;
use crate::client::{Client, Target};

/// The version of Anthropic's protocol that is spoken.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Where a model is and how to ask for it.
#[derive(Debug, Clone)]
pub struct EndpointSettings {
    /// The address up to the protocol's own path: `https://api.openai.com/v1`, `https://api.anthropic.com`.
    pub base_url: String,
    /// Connect here instead of to the address's host.
    pub unix_socket: Option<PathBuf>,
    /// The key, where one is needed.
    pub api_key: Option<Secret>,
    /// The model's name at the provider.
    pub model: String,
    /// More headers, such as `openai-organization`.
    pub headers: Vec<(String, String)>,
}

/// An upstream that speaks OpenAI chat completions.
#[derive(Debug, Clone)]
pub struct OpenAiEndpoint {
    client: Client,
    target: Target,
    model: String,
    dialect: openai::Dialect,
}

impl OpenAiEndpoint {
    /// Fails on an address or a header that cannot be sent.
    pub fn new(client: Client, settings: &EndpointSettings, dialect: openai::Dialect) -> Result<Self, Error> {
        let key = settings.api_key.as_ref().map(|k| ("authorization", format!("Bearer {}", k.expose())));
        let target = Target::new(settings, "/chat/completions", key.as_slice())?;
        Ok(OpenAiEndpoint { client, target, model: settings.model.clone(), dialect })
    }
}

impl ChatModel for OpenAiEndpoint {
    fn start<'a>(
        &'a self,
        request: &'a ChatRequest,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<DeltaStream, contract::Error>> {
        let body = openai::encode(request, &self.model, self.dialect).freeze();
        let decoder = Box::<openai::OpenAiDecoder>::default();
        Box::pin(self.client.ask(&self.target, attempt, body, decoder, openai::decode_body))
    }
}

/// An upstream that speaks Anthropic messages.
#[derive(Debug, Clone)]
pub struct AnthropicEndpoint {
    client: Client,
    target: Target,
    model: String,
}

impl AnthropicEndpoint {
    /// Fails on an address or a header that cannot be sent. The address may end with `/v1` or not.
    pub fn new(client: Client, settings: &EndpointSettings) -> Result<Self, Error> {
        let base = settings.base_url.trim_end_matches('/');
        let base_url = base.strip_suffix("/v1").unwrap_or(base).to_owned();
        let mut headers = vec![("anthropic-version", ANTHROPIC_VERSION.to_owned())];
        headers.extend(settings.api_key.as_ref().map(|k| ("x-api-key", k.expose().to_owned())));
        let target =
            Target::new(&EndpointSettings { base_url, ..settings.clone() }, "/v1/messages", &headers)?;
        Ok(AnthropicEndpoint { client, target, model: settings.model.clone() })
    }
}

impl ChatModel for AnthropicEndpoint {
    fn start<'a>(
        &'a self,
        request: &'a ChatRequest,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<DeltaStream, contract::Error>> {
        let body = anthropic::encode(request, &self.model).freeze();
        let decoder = Box::<anthropic::AnthropicDecoder>::default();
        Box::pin(self.client.ask(&self.target, attempt, body, decoder, anthropic::decode_body))
    }
}
