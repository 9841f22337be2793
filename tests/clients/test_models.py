"""What there is to call: `models.list` and `models.retrieve` of both clients."""

import anthropic
import openai
import pytest


def test_openai_lists_models_and_pipelines(oai):
    listed = {m.id: m.owned_by for m in oai().models.list()}
    assert listed["gpt"] == "model" and listed["claude"] == "model" and listed["summarize"] == "pipeline"


def test_openai_retrieves_one(oai):
    for name in ["gpt", "summarize"]:
        model = oai().models.retrieve(name)
        assert (model.id, model.object) == (name, "model") and model.created > 0
    with pytest.raises(openai.NotFoundError) as refused:
        oai().models.retrieve("nobody")
    assert refused.value.code == "not_found"


def test_anthropic_lists_models_and_pipelines(ant):
    listed = {m.id: m for m in ant().models.list()}
    assert {"gpt", "claude", "summarize"} <= set(listed)
    assert listed["gpt"].type == "model" and listed["gpt"].display_name and listed["gpt"].created_at.year > 2000


def test_anthropic_retrieves_one(ant):
    assert ant().models.retrieve("claude").id == "claude"
    with pytest.raises(anthropic.NotFoundError) as refused:
        ant().models.retrieve("nobody")
    assert refused.value.body["error"]["type"] == "not_found_error"
