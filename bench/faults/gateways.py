"""All gateways, at their best settings and as they come."""

from forebay import Direct, Forebay
from peers import LiteLlm, Portkey, TensorZero


class Plain:
    """A gateway with its fallback configured, and nothing else: what a user has who reads no further."""

    plain = True
    settings = "the fallback, and everything else as it comes."
    remarks = ()


class ForebayPlain(Plain, Forebay):
    name = "forebay-plain"
    settings = "the fallback, windows and prices, and everything else as it comes."


class TensorZeroPlain(Plain, TensorZero):
    name = "tensorzero-plain"


class PortkeyPlain(Plain, Portkey):
    name = "portkey-plain"


class LiteLlmPlain(Plain, LiteLlm):
    name = "litellm-plain"
    settings = "`fallbacks` and `context_window_fallbacks`, and everything else as it comes."


ALL = [Direct, Forebay, TensorZero, Portkey, LiteLlm, ForebayPlain, TensorZeroPlain, PortkeyPlain, LiteLlmPlain]
