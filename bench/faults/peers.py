"""The peers: how each is installed, and set up at its best for these scenarios."""

import json
import secrets
import sys

from gateway import FIRST_TOKEN, STREAM_TOTAL, Gateway, run


class Python(Gateway):
    """A peer from PyPI, in an environment of its own."""

    packages = ()

    @classmethod
    def python(cls, args):
        return args.peers / cls.home / "bin" / "python"

    @classmethod
    def install(cls, args):
        if not cls.python(args).exists():
            run([sys.executable, "-m", "venv", args.peers / cls.home])
            run([cls.python(args), "-m", "pip", "install", "-q", *cls.packages])

    @classmethod
    def version(cls, args):
        package = cls.packages[-1].split("=")[0].split("[")[0]
        code = f"import importlib.metadata as m; print(m.version('{package}'))"
        return run([cls.python(args), "-c", code]).strip()


class TensorZero(Python):
    name = home = "tensorzero"
    surfaces = ("openai",)
    packages = ("tensorzero==2026.6.0",)
    settings = (
        "model `routing` over both providers, `timeouts = {non_streaming.total_ms = 10000, streaming.ttft_ms = 10000, streaming.total_ms = "
        "25000}` at each; no variant retries, as the fallback answers; observability off. It has no Anthropic surface."
    )
    remarks = ("It has no breaker: one attempt for each request is the least it can do in S15.",)

    def env(self):
        return {"RUST_LOG": "error"}

    def command(self):
        config = "[gateway]\nobservability.enabled = false\n"
        first, total = self.ms(FIRST_TOKEN), self.ms(STREAM_TOTAL)
        for cell in self.cells:
            config += f'\n[models.{cell.name}]\nrouting = ["primary", "fallback"]\n'
            for side in ("primary", "fallback"):
                up = getattr(cell, side)
                config += f"""
[models.{cell.name}.providers.{side}]
type = "openai"
model_name = "{up.name}"
api_base = "{up.url}/v1/"
api_key_location = "none"
"""
                if not self.plain:
                    config += f"timeouts = {{ non_streaming.total_ms = {first}, streaming.ttft_ms = {first}, streaming.total_ms = {total} }}\n"
        (self.folder / "tensorzero.toml").write_text(config)
        # The client's wheel holds the gateway, which takes a free port.
        (self.folder / "start.py").write_text(
            """import pathlib, threading
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file="tensorzero.toml", clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
pathlib.Path("address").write_text(gateway.base_url)
threading.Event().wait()
"""
        )
        return [self.python(self.args), "start.py"]

    def start(self):
        address = self.folder / "address"

        def port():
            return int(address.read_text().split(":")[2].split("/")[0]) if address.exists() else None

        self.process = self.launch(self.command(), self.folder, port)
        self.port = port()

    def address(self, cell):
        return self.port, "/openai/v1/chat/completions"

    def model(self, cell):
        return f"tensorzero::model_name::{cell.name}"


class Portkey(Gateway):
    name = home = "portkey"
    health, at_once = "/", 32
    settings = (
        "`x-portkey-config` with `strategy: {mode: fallback}` and `request_timeout: 10000` at each target; no retries, as the fallback answers."
    )
    remarks = (
        "S12 and S13 are both a 400, and `on_status_codes` can take it for both or for none: with 400 left out S13 passes and S12 fails.",
        "`request_timeout` ends with the headers of an answer, so that nothing bounds a stall (S09).",
        "The circuit breaker of its documentation is part of the hosted service: the open-source gateway has only the hook for it.",
    )

    @classmethod
    def package(cls, args):
        return args.peers / cls.home / "node_modules" / "@portkey-ai" / "gateway"

    @classmethod
    def install(cls, args):
        if not cls.package(args).exists():
            folder = args.peers / cls.home
            folder.mkdir(parents=True, exist_ok=True)
            # With a newer node-server every stream is a 500 ("TypeError: immutable").
            package = {"dependencies": {"@portkey-ai/gateway": "1.15.2"}, "overrides": {"@hono/node-server": "1.13.8"}}
            (folder / "package.json").write_text(json.dumps(package))
            run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder)

    @classmethod
    def version(cls, args):
        return json.loads((cls.package(args) / "package.json").read_text())["version"]

    def env(self):
        return {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}

    def command(self):
        return ["node", self.package(self.args) / "build" / "start-server.js", f"--port={self.port}", "--headless"]

    def headers(self, cell):
        def target(up):
            limits = {} if self.plain else {"request_timeout": self.ms(FIRST_TOKEN)}
            override = {"model": up.name}
            return {
                "provider": cell.surface,
                "api_key": "none",
                "custom_host": f"{up.url}/v1",
                "override_params": override,
                **limits,
            }

        strategy = {"mode": "fallback"}
        config = {"strategy": strategy, "targets": [target(cell.primary), target(cell.fallback)]}
        return {**super().headers(cell), "x-portkey-config": json.dumps(config)}


class LiteLlm(Python):
    name = home = "litellm"
    health, patience, at_once = "/health/liveliness", 180.0, 8
    packages = ("litellm[proxy]==1.109.1",)
    settings = (
        "one worker; `timeout` and `stream_timeout` 10 s at each deployment, which support assistant prefill; `cancel_on_disconnect`; `router_settings`: "
        "`fallbacks` and `context_window_fallbacks` to the second model, `content_policy_fallbacks` that name no model for these (so that a filter is not "
        "routed around), `enable_mid_stream_fallback_continuation`, `num_retries: 0`, as the fallback answers, `allowed_fails: 1`, `cooldown_time: 15`. "
        "Eight scenarios at once, so that its speed plays no part."
    )

    @classmethod
    def install(cls, args):
        """Three of its pins name versions that a mirror may not have yet: no scenario touches what they hold."""
        if not cls.python(args).exists():
            home = args.peers / cls.home
            run([sys.executable, "-m", "venv", home])
            run([cls.python(args), "-m", "pip", "install", "-q", "uv"])
            (home / "override.txt").write_text("certifi\nlitellm-proxy-extras\nlitellm-enterprise\n")
            uv = [home / "bin" / "uv", "pip", "install", "-q", "--python", cls.python(args)]
            run([*uv, "--override", home / "override.txt", *cls.packages])

    def __init__(self, args, cells):
        super().__init__(args, cells)
        self.key = "sk-" + secrets.token_hex(16)  # it does not start without one

    def headers(self, cell):
        return {"authorization": f"Bearer {self.key}"}

    def env(self):
        return {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def command(self):
        def seconds(s):
            return s / self.scale

        models, fallbacks = [], []
        for cell in self.cells:
            for side, name in (("primary", cell.name), ("fallback", f"{cell.name}-second")):
                up = getattr(cell, side)
                base = f"{up.url}/v1" if cell.surface == "openai" else up.url
                params = {"model": f"{cell.surface}/{up.name}", "api_base": base, "api_key": "none"}
                if not self.plain:
                    params |= {"timeout": seconds(FIRST_TOKEN), "stream_timeout": seconds(FIRST_TOKEN)}
                info = {} if self.plain else {"supports_assistant_prefill": True}
                models.append({"model_name": name, "litellm_params": params, "model_info": info})
            fallbacks.append({cell.name: [f"{cell.name}-second"]})
        router = {"fallbacks": fallbacks, "context_window_fallbacks": fallbacks}
        general = {"master_key": self.key}
        if not self.plain:
            general["cancel_on_disconnect"] = True
            router |= {
                # Named for another group: a content filter of these groups is then not routed around.
                "content_policy_fallbacks": [{"none": [self.cells[0].name]}],
                "enable_mid_stream_fallback_continuation": True,
                "num_retries": 0,
                "allowed_fails": 1,
                "cooldown_time": seconds(15),
            }
        config = {
            "model_list": models,
            "general_settings": general,
            "litellm_settings": {"telemetry": False, "set_verbose": False},
            "router_settings": router,
        }
        (self.folder / "config.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
        litellm = self.args.peers / self.home / "bin" / "litellm"
        return [litellm, "--config", "config.yaml", "--host", "127.0.0.1", "--port", self.port, "--num_workers", "1"]
