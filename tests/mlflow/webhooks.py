"""What is asked of the registry's webhooks. CHECKS go to a server that tells public addresses alone, as it comes; TOLD to one that may
tell this machine, where a receiver writes down what it is told."""

import base64
import hashlib
import hmac
import http.server
import json
import re
import threading
import time

from mlflow.entities.webhook import WebhookEvent

import checks
from checks import check, rest

TOLD = {}
# Written out: no name is looked up for it.
URL = "https://93.184.215.14/hook"
SECRET = "between us"
MADE = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
NONE = "webhooks/00000000-0000-4000-8000-000000000000"


def told(f):
    TOLD[f.__name__] = f
    return f


def shown(hook):
    """A webhook of the client, without what differs from run to run."""
    return [hook.name, hook.url, [str(e) for e in hook.events], hook.description, str(hook.status), hook.secret,
            hook.last_updated_timestamp >= hook.creation_timestamp > 0, len(hook.webhook_id)]


# The client's way.

@check
def a_webhook_is_made_read_changed_and_removed(w):
    made = w.client.create_webhook("one", URL, ["model_version_alias.created", "registered_model.created"], "about", SECRET)
    got = [shown(made), shown(w.client.get_webhook(made.webhook_id))]
    for change in [{"name": "two"}, {"description": "other"}, {"description": ""}, {"url": URL + "/2"}, {"events": ["prompt.created", "model_version_tag.set"]},
                   {"secret": "new"}, {"secret": ""}, {"status": "DISABLED"}, {"status": "ACTIVE"}, {}]:
        got.append(shown(w.client.update_webhook(made.webhook_id, **change)))
    got.append(w.client.delete_webhook(made.webhook_id))
    for gone in [w.client.get_webhook, w.client.delete_webhook, w.client.update_webhook, w.client.test_webhook]:
        got.append(w.said(lambda: gone(made.webhook_id)))
    return got


@check
def a_webhook_may_be_made_disabled_and_for_every_event(w):
    every = ["registered_model.created", "model_version.created", "model_version_tag.set", "model_version_tag.deleted", "model_version_alias.created",
             "model_version_alias.deleted", "prompt.created", "prompt_version.created", "prompt_tag.set", "prompt_tag.deleted", "prompt_version_tag.set",
             "prompt_version_tag.deleted", "prompt_alias.created", "prompt_alias.deleted", "budget_policy.exceeded"]
    made = w.client.create_webhook("every", URL, every, status="DISABLED")
    got = w.rest("GET", f"webhooks/{made.webhook_id}")
    w.client.delete_webhook(made.webhook_id)
    return [shown(made), got]


@check
def webhooks_are_listed_in_pages_the_newest_first(w):
    made = []
    for n in range(3):
        made.append(w.client.create_webhook(f"listed-{n}", URL, [WebhookEvent("prompt", "created")]))
        time.sleep(0.003)
    first = w.client.list_webhooks(max_results=2)
    rest = w.client.list_webhooks(max_results=2, page_token=first.token)
    got = [[h.name for h in first], [h.name for h in rest], rest.token, [h.name for h in w.client.list_webhooks()]]
    got += [w.rest("GET", "webhooks", query=q) for q in [{"max_results": 1}, {"max_results": 1, "page_token": first.token}]]
    for hook in made:
        w.client.delete_webhook(hook.webhook_id)
    return [*got, w.rest("GET", "webhooks"), w.rest("GET", "/ajax-api/2.0/mlflow/webhooks")]


for n, q in enumerate([{"max_results": "x"}, {"max_results": 0}, {"max_results": -1}, {"max_results": 1001}, {"page_token": "!"}]):
    rest(f"webhooks_listed_bad_{n}", "GET", "webhooks", query=q)


# What is refused.

def refused(name, *bodies):
    def ask(w):
        got = []
        for body in bodies:
            got.append(w.rest("POST", "webhooks", body))
            for hook in w.client.list_webhooks():
                w.client.delete_webhook(hook.webhook_id)
        return got
    checks.CHECKS[name] = ask


def hook(**more):
    return {"name": "n", "url": URL, "events": MADE, **more}


refused("a_webhook_needs_a_name_an_address_and_events", {}, {"name": "n"}, {"name": "n", "url": URL}, {"url": URL, "events": MADE}, {"name": "n", "events": MADE},
        hook(events=[]), hook(events=None), hook(name=""), hook(url=""))
refused("names_of_webhooks", *(hook(name=n) for n in ["a b", "-a", "a-", ".", "a", "A.b_c-9", "a" * 63, "a" * 64, "ü", "a/b", " a", "a\n", 5, ["a"], "it's"]))
refused("addresses_of_webhooks", *(hook(url=u) for u in [
    "http://93.184.215.14/", "HTTPS://93.184.215.14/", "ftp://93.184.215.14/", "93.184.215.14/hook", " ", "https://", "https:///x", "/hook", "https://127.0.0.1/", "https://10.0.0.1:8443/x",
    "https://169.254.169.254/latest", "https://[::1]/", 5, "https://93.184.215.14:8443/a?b=c#d"]))
refused("events_of_webhooks", *(hook(events=e) for e in [
    [{}], [{"entity": "REGISTERED_MODEL"}], [{"action": "CREATED"}], [{"entity": "REGISTERED_MODEL", "action": "SET"}], [{"entity": "PROMPT_TAG", "action": "CREATED"}],
    [{"entity": 1, "action": 1}], [{"entity": "MODEL_VERSION", "action": "UPDATED"}], MADE + [{"entity": "MODEL_VERSION", "action": "CREATED"}],
    [{"entity": "ENTITY_UNSPECIFIED", "action": "CREATED"}], [{"entity": "REGISTERED_MODEL", "action": "ACTION_UNSPECIFIED"}]]))
refused("events_of_webhooks_that_are_none", *(hook(events=e) for e in [[{"entity": "NOTHING", "action": "CREATED"}], [{"entity": "REGISTERED_MODEL", "action": "MADE"}], "registered_model.created",
                                                                       ["registered_model.created"], 5, [{"entity": "registered_model", "action": "created"}], [{"entity": 99, "action": 1}]]))
refused("an_event_that_is_there_twice", hook(events=MADE + MADE))
refused("states_of_webhooks", *(hook(status=s) for s in ["ACTIVE", "DISABLED", 1, 2, None]))
refused("states_of_webhooks_that_are_none", *(hook(status=s) for s in ["active", "PAUSED", "", 3, ["ACTIVE"], 1.5]))
refused("the_rest_of_a_webhook", hook(description=5), hook(secret=5), hook(description="", secret=""), hook(description="d" * 900, secret="s" * 500), hook(unknown=1))


@check
def a_webhook_is_changed_badly(w):
    made = w.client.create_webhook("kept", URL, ["prompt.created"], "about", SECRET)
    at = f"webhooks/{made.webhook_id}"
    got = [w.rest("PATCH", at, body) for body in [
        {"name": "a b"}, {"name": 5}, {"name": ""}, {"url": "http://93.184.215.14/"}, {"url": "https://127.0.0.1/"}, {"url": ""}, {"url": 5}, {"events": []}, {"events": [{}]},
        {"events": [{"entity": "PROMPT", "action": "SET"}]}, {"events": 5}, {"status": "PAUSED"}, {"status": 5}, {"name": "x", "url": "ftp://x"}, {"description": 5}, {"secret": 5}]]
    got.append(shown(w.client.get_webhook(made.webhook_id)))
    w.client.delete_webhook(made.webhook_id)
    return got


@check
def a_webhook_that_there_is_not(w):
    return [w.rest("GET", NONE), w.rest("PATCH", NONE, {}), w.rest("PATCH", NONE, {"name": "a b"}), w.rest("DELETE", NONE), w.rest("POST", NONE + "/test", {}),
            w.rest("GET", "webhooks/one"), w.rest("DELETE", "webhooks/one"), w.rest("POST", "webhooks/one/test", {"event": {"entity": "PROMPT", "action": "SET"}})]


@check
def a_webhook_that_cannot_be_tested(w):
    made = w.client.create_webhook("tested", URL, ["prompt.created"])
    at = f"webhooks/{made.webhook_id}/test"
    got = [w.rest("POST", at, {"event": e}) for e in [{"entity": "PROMPT", "action": "SET"}, {}]]
    w.client.delete_webhook(made.webhook_id)
    return got


# What is told.

class Receiver:
    """Writes down what it is told, and answers as it is said."""

    def __init__(self):
        self.came, self.status, self.said = [], 200, b"thanks"
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.came.append((self.path, dict(self.headers.items()), body))
                self.send_response(receiver.status)
                self.send_header("content-length", str(len(receiver.said)))
                self.end_headers()
                self.wfile.write(receiver.said)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/told"

    def stop(self):
        self.server.shutdown()

    def wait(self, count):
        until = time.monotonic() + 60
        while len(self.came) < count:
            assert time.monotonic() < until, f"{len(self.came)} of {count} came"
            time.sleep(0.02)

    def told(self, secret=None):
        """What came, by the events, in one order: several are on their way at once."""
        got = []
        for path, headers, body in self.came:
            names = {k.lower(): v for k, v in headers.items()}
            said = json.loads(body)
            signed = None
            if "x-mlflow-signature" in names:
                content = f"{names['x-mlflow-delivery-id']}.{names['x-mlflow-timestamp']}.".encode() + body
                mac = hmac.new((secret or "").encode(), content, hashlib.sha256).digest()
                signed = names["x-mlflow-signature"] == "v1," + base64.b64encode(mac).decode()
            fresh = abs(time.time() - int(names["x-mlflow-timestamp"])) < 300
            at = re.sub(r"[0-9]+", "0", re.sub(r"\.\d+", "", said["timestamp"]))
            how = f"{path} {names['content-type']} {' '.join(sorted(said))} {at} signed: {signed} fresh: {fresh} id: {len(names['x-mlflow-delivery-id']) > 30}"
            got.append([f"{said['entity']}.{said['action']}", said["data"], how])
        self.came.clear()
        return sorted(got, key=json.dumps)


def listening(w, events, secret=None):
    receiver = Receiver()
    made = w.client.create_webhook("told", receiver.url, events, secret=secret)
    return receiver, made


MODELS = ["registered_model.created", "model_version.created", "model_version_tag.set", "model_version_tag.deleted", "model_version_alias.created", "model_version_alias.deleted"]
PROMPTS = ["prompt.created", "prompt_version.created", "prompt_tag.set", "prompt_tag.deleted", "prompt_version_tag.set", "prompt_version_tag.deleted", "prompt_alias.created", "prompt_alias.deleted"]


@told
def what_happens_to_a_model_is_told_and_signed(w):
    receiver, made = listening(w, MODELS + PROMPTS, SECRET)
    n = w.name()
    w.client.create_registered_model(n, tags={"a": "ü"}, description="about")
    w.client.create_registered_model(n + "-plain")
    w.client.create_model_version(n, "s3://bucket/m", tags={"c": "d"}, description="v")
    w.client.create_model_version(n, "s3://bucket/m", run_id="")
    w.client.set_model_version_tag(n, "1", "k", "v")
    w.client.delete_model_version_tag(n, "1", "k")
    w.client.set_registered_model_alias(n, "best", 1)
    w.client.set_registered_model_alias(n, "best", 2)
    w.client.delete_registered_model_alias(n, "best")
    w.client.set_registered_model_tag(n, "of", "a model")
    w.client.update_registered_model(n, "new")
    receiver.wait(9)
    got = receiver.told(SECRET)
    w.client.delete_webhook(made.webhook_id)
    w.client.create_registered_model(n + "-unheard")
    receiver.stop()
    return [got, receiver.came]


@told
def what_happens_to_a_prompt_is_told(w):
    receiver, made = listening(w, MODELS + PROMPTS)
    n = w.name()
    is_prompt = {"key": "mlflow.prompt.is_prompt", "value": "true"}
    w.rest("POST", "registered-models/create", {"name": n, "tags": [is_prompt, {"key": "t", "value": "u"}], "description": "about"})
    w.rest("POST", "model-versions/create", {"name": n, "source": "dummy-source", "tags": [is_prompt, {"key": "mlflow.prompt.text", "value": "Hello {{name}}!"}, {"key": "_mlflow_prompt_type", "value": "text"}, {"key": "x", "value": "y"}]})
    w.rest("POST", "registered-models/set-tag", {"name": n, "key": "k", "value": "v"})
    w.rest("DELETE", "registered-models/delete-tag", {"name": n, "key": "k"})
    w.rest("POST", "model-versions/set-tag", {"name": n, "version": "1", "key": "k", "value": "v"})
    w.rest("DELETE", "model-versions/delete-tag", {"name": n, "version": "1", "key": "k"})
    w.rest("POST", "registered-models/alias", {"name": n, "alias": "live", "version": "1"})
    w.rest("DELETE", "registered-models/alias", {"name": n, "alias": "live"})
    receiver.wait(8)
    got = receiver.told()
    w.client.delete_webhook(made.webhook_id)
    receiver.stop()
    return got


@told
def who_is_disabled_or_listens_to_something_else_is_not_told(w):
    off, other, on = Receiver(), Receiver(), Receiver()
    hooks = [w.client.create_webhook("off", off.url, ["registered_model.created"], status="DISABLED"), w.client.create_webhook("other", other.url, ["prompt.created"]),
             w.client.create_webhook("on", on.url, ["registered_model.created"])]
    n = w.name()
    w.client.create_registered_model(n)
    on.wait(1)
    w.client.update_webhook(hooks[0].webhook_id, status="ACTIVE")
    w.client.update_webhook(hooks[2].webhook_id, status="DISABLED")
    w.client.create_registered_model(n + "-2")
    off.wait(1)
    got = [off.told(), other.told(), on.told()]
    for hook in hooks:
        w.client.delete_webhook(hook.webhook_id)
    for receiver in (off, other, on):
        receiver.stop()
    return got


@told
def a_webhook_is_tested(w):
    receiver, made = listening(w, MODELS + PROMPTS + ["budget_policy.exceeded"], SECRET)
    got = []
    for event in [None] + MODELS + PROMPTS + ["budget_policy.exceeded"]:
        result = w.client.test_webhook(made.webhook_id, event)
        got.append([event, result.success, result.response_status, result.response_body, result.error_message, receiver.told(SECRET)])
    receiver.status, receiver.said = 404, b"not here"
    result = w.client.test_webhook(made.webhook_id, "prompt.created")
    got.append([result.success, result.response_status, result.response_body, result.error_message])
    w.client.update_webhook(made.webhook_id, status="DISABLED")
    receiver.came.clear()
    got.append([w.client.test_webhook(made.webhook_id).success, len(receiver.came)])
    receiver.stop()
    receiver.server.server_close()
    result = w.client.test_webhook(made.webhook_id)
    got.append([result.success, result.response_status, result.response_body, result.error_message.split(":")[0]])
    w.client.delete_webhook(made.webhook_id)
    return got
