"""What is asked of a server: by the unmodified client, and by plain requests, wrong ones included. Each check makes what it needs,
and gives what was answered. The same checks are run against the real server (record.py) and against ours (test_mlflow.py)."""

import json
import os
import tempfile
import time
import traceback

os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
                  MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", GIT_PYTHON_REFRESH="quiet")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from normal import Normal

CHECKS = {}
A = "/api/2.0/mlflow/"
LONG = "x" * 600


def check(f):
    CHECKS[f.__name__] = f
    return f


def rest(name, method, path, body=None, query=None, **more):
    """A check that is one request."""
    CHECKS[name] = lambda w: w.rest(method, path, body, query, **more)


class World:
    """A server, and a client of it."""

    def __init__(self, server, checks=CHECKS):
        self.server, self.checks = server, checks
        self.client = MlflowClient(server.url, server.url)
        self.count = 0
        self.use()

    def use(self):
        """What knows no server of its own asks this one."""
        if self.server.token:
            os.environ["MLFLOW_TRACKING_TOKEN"] = self.server.token
        mlflow.set_tracking_uri(self.server.url)
        mlflow.set_registry_uri(self.server.url)

    def name(self):
        self.count += 1
        return f"{self.check}-{self.count}"

    def experiment(self):
        return self.client.create_experiment(self.name())

    def run(self, experiment=None, **more):
        return self.client.create_run(experiment or self.experiment(), start_time=1000, **more).info.run_id

    def rest(self, method, path, body=None, query=None, **more):
        path = path if path.startswith("/") else A + path
        status, _, said = self.server.ask(method, path, body, query, **more)
        try:
            return [status, json.loads(said)]
        except ValueError:
            return [status, said.decode(errors="replace") if status == 200 else "…"]

    def said(self, call):
        """What the client raises, or what it gives."""
        try:
            return call()
        except MlflowException as e:
            return ["raised", e.error_code, str(e)]

    def outcome(self, name):
        self.check, self.count = name, 0
        self.use()
        normal = Normal(self.server.url)
        try:
            got = self.checks[name](self)
        except MlflowException as e:
            got = ["raised", e.error_code, str(e)]
        except Exception as e:
            got = ["broke", type(e).__name__, traceback.format_exc()[-700:]]
        return json.loads(json.dumps(normal.of(got)))


# Experiments.

@check
def an_experiment_is_made_and_read(w):
    e = w.client.create_experiment(w.name(), tags={"a": "b", "c": "ü"})
    return w.rest("GET", "experiments/get", query={"experiment_id": e})


@check
def the_default_experiment_is_there(w):
    return w.rest("GET", "experiments/get", query={"experiment_id": "0"})


@check
def set_experiment_makes_one_once(w):
    n = w.name()
    first, again = mlflow.set_experiment(n), mlflow.set_experiment(n)
    return [first.experiment_id == again.experiment_id, first.name == n, first.lifecycle_stage]


@check
def a_name_is_taken(w):
    n = w.name()
    w.client.create_experiment(n)
    return w.rest("POST", "experiments/create", {"name": n})


@check
def a_deleted_experiment_keeps_its_name_and_comes_back(w):
    n = w.name()
    e = w.client.create_experiment(n)
    r = w.run(e)
    w.client.delete_experiment(e)
    got = [w.rest("POST", "experiments/create", {"name": n}), w.rest("POST", "experiments/delete", {"experiment_id": e}),
           w.rest("POST", "experiments/set-experiment-tag", {"experiment_id": e, "key": "a", "value": "b"}),
           w.rest("POST", "experiments/update", {"experiment_id": e, "new_name": "x"}),
           w.rest("POST", "runs/create", {"experiment_id": e}), w.client.get_run(r).info.lifecycle_stage]
    w.client.restore_experiment(e)
    return [*got, w.rest("POST", "experiments/restore", {"experiment_id": e}), w.client.get_run(r).info.lifecycle_stage]


@check
def an_experiment_is_renamed_and_tagged(w):
    e = w.experiment()
    w.client.rename_experiment(e, w.check + "-renamed")
    w.client.set_experiment_tag(e, "k", "v")
    w.client.set_experiment_tag(e, "k", "w")
    w.client.set_experiment_tag(e, "l", "")
    w.client.delete_experiment_tag(e, "l")
    return [w.rest("GET", "experiments/get-by-name", query={"experiment_name": w.check + "-renamed"}),
            w.rest("POST", "experiments/delete-experiment-tag", {"experiment_id": e, "key": "l"})]


@check
def experiments_are_searched(w):
    n = w.check
    for k in "abc":
        w.client.create_experiment(f"{n}-{k}", tags={"only": n, "k": k})
        time.sleep(0.003)
    own = f"tags.only = '{n}'"
    names = lambda **q: [e.name for e in w.client.search_experiments(**q)]
    first = w.client.search_experiments(filter_string=own, max_results=2, order_by=["name ASC"])
    return [names(filter_string=own), names(filter_string=own, order_by=["name DESC"]),
            names(filter_string=f"name LIKE '{n}-%' AND tags.k != 'b'", order_by=["name"]),
            names(filter_string=f"{own} AND name ILIKE '%-C'"), names(filter_string=f"{own} AND tags.k IS NOT NULL AND tags.z IS NULL"),
            [e.name for e in first], names(filter_string=own, max_results=2, order_by=["name ASC"], page_token=first.token)]


@check
def artifacts_of_an_experiment_may_be_elsewhere(w):
    e = w.client.create_experiment(w.name(), artifact_location="s3://bucket/path")
    return [w.client.get_experiment(e).artifact_location, w.client.get_run(w.run(e)).info.artifact_uri.rsplit("/", 2)[0]]


for n, body in enumerate([{}, {"name": ""}, {"name": 5}, {"name": None}, {"name": ["a"]}, {"name": LONG}, {"name": "a", "tags": "x"},
                          {"name": "badtag", "tags": [{"key": "a*b", "value": "c"}]},
                          {"name": "badtag2", "tags": [{"key": "../x", "value": "c"}]},
                          {"name": "runs", "artifact_location": "runs:/x"}, {"name": "frag", "artifact_location": "s3://a#b"}]):
    rest(f"experiments_create_bad_{n}", "POST", "experiments/create", body)
for n, q in enumerate([{}, {"experiment_id": "x"}, {"experiment_id": "99999"}, {"experiment_id": "-1"}]):
    rest(f"experiments_get_bad_{n}", "GET", "experiments/get", query=q)
rest("experiments_by_name_bad_0", "GET", "experiments/get-by-name")
rest("experiments_by_name_bad_1", "GET", "experiments/get-by-name", query={"experiment_name": "there is none"})
for n, body in enumerate([{}, {"max_results": 0}, {"max_results": -1}, {"max_results": 50001}, {"max_results": "x"},
                          {"max_results": 5, "filter": "name = 5"}, {"max_results": 5, "filter": "foo.x = 'a'"},
                          {"max_results": 5, "filter": "bar = 'a'"}, {"max_results": 5, "filter": "name > 'a'"},
                          {"max_results": 5, "filter": "name ="}, {"max_results": 5, "order_by": ["bar"]},
                          {"max_results": 5, "order_by": ["name foo"]}, {"max_results": 5, "page_token": "!"},
                          {"max_results": 5, "filter": "experiment_id = 'x'"}, {"max_results": 5, "filter": "creation_time > 1.5"}]):
    rest(f"experiments_search_bad_{n}", "POST", "experiments/search", body)
for n, (path, body) in enumerate([("delete", {}), ("restore", {"experiment_id": "98765"}), ("update", {"experiment_id": "0"}),
                                  ("set-experiment-tag", {"experiment_id": "0", "value": "x"}),
                                  ("set-experiment-tag", {"experiment_id": "0", "key": "k" * 251, "value": "x"}),
                                  ("set-experiment-tag", {"experiment_id": "0", "key": "/k", "value": "x"})]):
    rest(f"experiments_change_bad_{n}", "POST", f"experiments/{path}", body)


# Runs.

@check
def a_run_is_made(w):
    return w.rest("POST", "runs/create", {"experiment_id": w.experiment(), "user_id": "u", "start_time": 5, "run_name": "r",
                                          "tags": [{"key": "a", "value": "b"}]})


@check
def a_run_without_a_name_gets_one(w):
    return w.rest("POST", "runs/create", {"experiment_id": w.experiment(), "start_time": "7"})


@check
def a_run_is_named_by_its_tag(w):
    e = w.experiment()
    tag = {"experiment_id": e, "tags": [{"key": "mlflow.runName", "value": "t"}]}
    return [w.rest("POST", "runs/create", tag), w.rest("POST", "runs/create", {**tag, "run_name": "other"})]


@check
def a_run_has_what_was_logged(w):
    r = w.run()
    w.client.log_param(r, "p", 1)
    w.client.log_metric(r, "m", 0.1 + 0.2, timestamp=5, step=3)
    w.client.log_metric(r, "nan", float("nan"), timestamp=5)
    w.client.log_metric(r, "inf", float("inf"), timestamp=5)
    w.client.log_metric(r, "minf", float("-inf"), timestamp=5)
    w.client.set_tag(r, "t", "v")
    w.client.set_tag(r, "mlflow.note.content", "ü\n")
    return w.rest("GET", "runs/get", query={"run_id": r})


@check
def a_run_is_named_by_its_old_name(w):
    r = w.run()
    return [w.rest("GET", "runs/get", query={"run_uuid": r})[0],
            w.rest("POST", "runs/log-metric", {"run_uuid": r, "key": "m", "value": 1, "timestamp": 1})]


@check
def json_spelling_is_read(w):
    r = w.run()
    return [w.rest("POST", "runs/log-metric", {"runId": r, "key": "m", "value": "1.5", "timestamp": "12", "step": "3"}),
            w.rest("GET", "metrics/get-history", query={"run_id": r, "metric_key": "m"})]


@check
def the_fluent_client_tracks_a_run(w):
    mlflow.set_experiment(w.name())
    with mlflow.start_run(run_name="fluent", tags={"a": "b"}, description="d") as run:
        mlflow.log_params({"x": 1, "y": "two"})
        for step in range(5):
            mlflow.log_metrics({"loss": 1 / (step + 1), "acc": step / 5}, step=step)
        mlflow.set_tags({"c": "d"})
        mlflow.log_text("hello", "notes/a.txt")
        mlflow.log_dict({"k": [1, 2]}, "d.json")
        with mlflow.start_run(nested=True) as child:
            mlflow.log_metric("inner", 1)
    got = mlflow.get_run(run.info.run_id)
    tags = {k: v for k, v in got.data.tags.items() if not k.startswith(("mlflow.source", "mlflow.user"))}
    return [got.info.status, got.data.params, got.data.metrics, tags, mlflow.artifacts.load_text(got.info.artifact_uri + "/notes/a.txt"),
            mlflow.artifacts.load_dict(got.info.artifact_uri + "/d.json"),
            mlflow.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == run.info.run_id]


@check
def a_run_that_fails_says_so(w):
    mlflow.set_experiment(w.name())
    try:
        with mlflow.start_run() as run:
            raise ValueError("x")
    except ValueError:
        return mlflow.get_run(run.info.run_id).info.status


@check
def a_run_is_updated(w):
    r = w.run()
    w.client.update_run(r, name="new")
    w.client.set_terminated(r, "FAILED", end_time=99)
    return [w.rest("POST", "runs/update", {"run_id": r, "status": 1}), w.rest("POST", "runs/update", {"run_id": r, "status": "KILLED", "end_time": 12}),
            w.client.get_run(r).data.tags]


@check
def a_deleted_run_takes_nothing_and_comes_back(w):
    e = w.experiment()
    r = w.run(e)
    w.client.delete_run(r)
    asks = [("log-metric", {"key": "m", "value": 1, "timestamp": 1}), ("log-parameter", {"key": "m", "value": "1"}),
            ("set-tag", {"key": "m", "value": "1"}), ("delete-tag", {"key": "m"}), ("update", {"status": "FAILED"}),
            ("log-batch", {}), ("delete", {})]
    got = [w.rest("POST", f"runs/{path}", {"run_id": r, **body}) for path, body in asks]
    views = [len(w.client.search_runs([e], run_view_type=v)) for v in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL)]
    w.client.restore_run(r)
    return [*got, views, w.client.get_run(r).info.lifecycle_stage]


@check
def a_parameter_is_set_once(w):
    r = w.run()
    body = {"run_id": r, "key": "p", "value": "1"}
    return [w.rest("POST", "runs/log-parameter", body), w.rest("POST", "runs/log-parameter", body),
            w.rest("POST", "runs/log-parameter", {**body, "value": "2"}),
            w.rest("POST", "runs/log-batch", {"run_id": r, "params": [{"key": "p", "value": "2"}, {"key": "q", "value": "3"}]}),
            w.client.get_run(r).data.params]


@check
def long_values_are_cut_and_long_keys_refused(w):
    r = w.run()
    w.client.log_param(r, "p", "é" * 6500)
    w.client.set_tag(r, "t", "x" * 9000)
    run = w.client.get_run(r)
    return [len(run.data.params["p"]), len(run.data.tags["t"]), w.rest("POST", "runs/log-parameter", {"run_id": r, "key": "k" * 251, "value": "1"}),
            w.rest("POST", "runs/set-tag", {"run_id": r, "key": "k" * 251, "value": "1"}),
            w.rest("POST", "runs/log-metric", {"run_id": r, "key": "k" * 251, "value": 1, "timestamp": 1})]


@check
def a_tag_is_changed_and_removed(w):
    r = w.run()
    w.client.set_tag(r, "t", "1")
    w.client.set_tag(r, "t", "2")
    before = w.client.get_run(r).data.tags["t"]
    w.client.delete_tag(r, "t")
    return [before, "t" in w.client.get_run(r).data.tags, w.rest("POST", "runs/delete-tag", {"run_id": r, "key": "t"})]


@check
def the_newest_metric_is_that_of_the_last_step(w):
    r = w.run()
    for value, at, step in [(1, 50, 1), (2, 10, 5), (3, 99, 2), (9, 10, 5), (4, 9, 5)]:
        w.client.log_metric(r, "m", value, timestamp=at, step=step)
    return w.client.get_run(r).data.metrics


@check
def the_history_has_each_value_once_and_pages(w):
    r = w.run()
    for n in [3, 1, 2, 2]:
        w.client.log_metric(r, "m", n, timestamp=n, step=n)
    q = {"run_id": r, "metric_key": "m"}
    first = w.rest("GET", "metrics/get-history", query={**q, "max_results": 2})
    return [w.rest("GET", "metrics/get-history", query=q), first,
            w.rest("GET", "metrics/get-history", query={**q, "max_results": 2, "page_token": first[1].get("next_page_token", "")}),
            w.rest("GET", "metrics/get-history", query={**q, "metric_key": "none"}),
            [(m.value, m.step) for m in w.client.get_metric_history(r, "m")]]


@check
def histories_of_runs_come_together(w):
    e = w.experiment()
    runs = [w.run(e), w.run(e)]
    for r in runs:
        for n in range(10):
            w.client.log_metric(r, "m", n, timestamp=n, step=n)
    q = {"run_ids": runs, "metric_key": "m"}
    return [w.rest("GET", "metrics/get-history-bulk-interval", query=q),
            w.rest("GET", "metrics/get-history-bulk-interval", query={**q, "start_step": 3, "end_step": 5}),
            w.rest("GET", "metrics/get-history-bulk-interval", query={**q, "start_step": 5, "end_step": 3}),
            w.rest("GET", "metrics/get-history-bulk-interval", query={**q, "start_step": 5})]


@check
def a_batch_is_logged(w):
    r = w.run()
    w.client.log_batch(r, [Metric(f"m{n}", n, 5, n) for n in range(1000)], [], [])
    w.client.log_batch(r, [Metric("a", 1, 1, 0), Metric("a", 2, 1, 0)], [Param("p", "1")], [RunTag("t", "1"), RunTag("t", "2"), RunTag("mlflow.runName", "n")])
    run = w.client.get_run(r)
    return [len(run.data.metrics), run.data.metrics["a"], run.data.metrics["m999"], run.data.params, run.data.tags, run.info.run_name,
            w.rest("POST", "runs/log-batch", {"run_id": r})]


@check
def a_batch_that_is_wrong_logs_nothing(w):
    r = w.run()
    m = lambda **k: {"key": "m", "value": 1, "timestamp": 1, "step": 0, **k}
    p = lambda k, v="1": {"key": k, "value": v}
    bodies = [{"metrics": [m(n=0) for _ in range(1001)]}, {"params": [p(f"p{n}") for n in range(101)]}, {"tags": [p(f"t{n}") for n in range(101)]},
              {"metrics": [m() for _ in range(950)], "params": [p(f"p{n}") for n in range(60)]}, {"params": [p("a"), p("b"), p("a")]},
              {"metrics": [m(key="")]}, {"metrics": [{"key": "m", "timestamp": 1}]}, {"metrics": [{"key": "m", "value": 1}]},
              {"metrics": [m(), m(key="a//b")]}, {"metrics": [m(timestamp=-1)]}, {"metrics": "x"}, {"params": [{"value": "1"}]}, {"params": [p("../a")]},
              {"tags": [p("a\n")]}, {"metrics": [m(value="x")]}, {"tags": {"a": "b"}}, {"metrics": [m(key="a", value=2)], "params": [p("*")]}]
    got = [w.rest("POST", "runs/log-batch", {"run_id": r, **b}) for b in bodies]
    big = json.dumps({"run_id": r, "tags": [p("t", "x" * 1_000_001)]}).encode()
    run = w.client.get_run(r)
    return [*got, w.rest("POST", "runs/log-batch", big)[0], run.data.params, sorted(k for k in run.data.tags if k != "mlflow.runName")]


for n, body in enumerate([{}, {"run_id": ""}, {"run_id": "x" * 32}, {"run_id": 5}, {"run_id": "no such", "key": "k", "value": 1, "timestamp": 1}]):
    rest(f"runs_log_metric_bad_{n}", "POST", "runs/log-metric", body)
for n, more in enumerate([{"key": ""}, {"key": 5}, {"key": "a*"}, {"key": "/a"}, {"key": "a/../b"}, {"key": "."}, {"value": None}, {"value": "x"}, {"value": [1]},
                          {"value": True}, {"timestamp": None}, {"timestamp": "x"}, {"timestamp": -5}, {"step": "x"}, {"step": 1.5}]):
    @check
    def bad(w, more=more):
        body = {"run_id": w.run(), "key": "k", "value": 1.0, "timestamp": 1, **more}
        return w.rest("POST", "runs/log-metric", {k: v for k, v in body.items()})
    CHECKS[f"runs_log_metric_wrong_{n}"] = CHECKS.pop("bad")
for n, (path, body) in enumerate([("get", None), ("create", {"experiment_id": "99999"}), ("create", {"experiment_id": "x"}), ("create", {"experiment_id": 5}),
                                  ("create", {"experiment_id": "0", "start_time": "x"}), ("update", {}), ("update", {"run_id": "none"}), ("delete", {}),
                                  ("delete", {"run_id": "none"}), ("restore", {"run_id": "none"}), ("set-tag", {"run_id": "none", "key": "k", "value": "v"}),
                                  ("set-tag", {"run_id": "none"}), ("log-parameter", {"run_id": "none", "key": "a?", "value": "1"}), ("log-batch", {}),
                                  ("log-batch", {"run_id": "none"}), ("log-batch", {"run_id": "a b"}), ("log-inputs", {"run_id": "none"}), ("outputs", {"run_id": "none"}),
                                  ("log-model", {"run_id": "none"}), ("log-model", {"run_id": "none", "model_json": "{"}), ("log-model", {"run_id": "none", "model_json": "{}"})]):
    CHECKS[f"runs_bad_{n}"] = lambda w, path=path, body=body: (
        w.rest("GET", f"runs/{path}") if body is None else
        [s if "missing mandatory fields" not in str(s) else "missing mandatory fields" for s in w.rest("POST", f"runs/{path}", body)])
rest("a_body_that_is_no_json", "POST", "runs/create", b"{x")
rest("a_body_that_is_a_list", "POST", "runs/get", b"[]")
rest("a_body_of_another_sort", "POST", "runs/create", b"a=b", headers={"content-type": "application/x-www-form-urlencoded"})
rest("a_run_that_there_is_not", "GET", "runs/get", query={"run_id": "0" * 32})
rest("a_history_of_no_run", "GET", "metrics/get-history", query={"run_id": "0" * 32, "metric_key": "m"})
rest("a_history_of_no_key", "GET", "metrics/get-history", query={"run_id": "0" * 32})


# Searches of runs.

def five(w):
    e = w.experiment()
    for n in range(1, 6):
        r = w.client.create_run(e, start_time=n, run_name=f"run {n}").info.run_id
        params = [Param("lr", f"0.{n}"), Param("name", "Even" if n % 2 == 0 else "odd")]
        tags = [RunTag("a b", f"x{n}")] + ([RunTag("only", "5")] if n == 5 else [])
        w.client.log_batch(r, [Metric("acc", float("nan") if n == 3 else n / 10, 1, 0)] if n != 5 else [], params, tags)
        if n == 4:
            w.client.set_terminated(r, "FAILED", end_time=77)
    return e


def searched(w, e, filter="", order=(), **more):
    return w.said(lambda: [r.info.run_name for r in w.client.search_runs([e], filter, order_by=list(order), **more)])


FILTERS = [
    "metrics.acc > 0.15", "metric.acc>=0.2 and metrics.acc<0.4", "metrics.acc != 0.1", "metrics.acc = 0.2", "params.lr = '0.3'", 'params.lr = "0.3"',
    "param.name LIKE 'E%'", "params.name LIKE 'e%'", "params.name ILIKE 'e%'", "params.name LIKE '_dd'", "params.lr != '0.1'", "tags.`a b` = 'x1'",
    'tags."a b" != \'x1\'', "tags.only IS NULL", "tags.only IS NOT NULL AND params.lr = '0.5'", "params.none IS NULL", "attributes.run_name = 'run 4'",
    "run_name ILIKE 'RUN _'", "attributes.status = 'FAILED'", "status != 'FAILED'", "start_time > 3", "attributes.end_time = 77", "attributes.start_time <= 2",
    "attribute.artifact_uri LIKE 'mlflow%'", "created > 4", "metrics.acc > 0.1 AND params.name = 'Even' AND tags.`a b` LIKE 'x%'", "params.lr LIKE '*'",
    "params.lr = 'a''b'", "tags.mlflow.runName = 'run 2'",
]
WRONG = [
    "metrics.acc > 'a'", "metrics.acc LIKE 'a'", "params.lr = 5", "params.lr = lr", "params.lr > '0.1'", "params.lr", "params.lr =", "= 'a'", "foo.bar = 'x'",
    "bar = 'x'", "attributes.bar = 'x'", "metrics.acc > 1 OR metrics.acc < 2", "5 > metrics.acc", "status IN ('a')", "run_id IN ()", "run_id IN (1, 2)", "run_id IN ('a'",
    "metrics.acc IS NULL", "status IS NULL", "start_time > 'a'", "dataset.foo = 'x'", "params.lr = '0.1' params.name = 'a'", "tags.a == 'x'", "AND", "params.lr = '0.1';",
]
ORDERS = [["metrics.acc"], ["metrics.acc DESC"], ["params.name", "start_time"], ["start_time ASC"], ["tags.only", "params.lr desc"], ["attributes.end_time DESC"],
          ["metrics.none"], ["metrics.`acc` ASC"], ["run_name DESC"], ["Created"]]
WRONG_ORDERS = [["foo.x"], ["bar"], ["metrics.acc up"], ["metrics.acc DESC x"], [""], ["metrics.a", "metrics.a DESC"], ["dataset.name"]]


@check
def filters_of_runs(w):
    e = five(w)
    return {f: searched(w, e, f) for f in FILTERS}


for n, f in enumerate(WRONG):
    CHECKS[f"runs_filter_wrong_{n}"] = lambda w, f=f: w.rest("POST", "runs/search", {"experiment_ids": ["0"], "filter": f})
for n, o in enumerate(WRONG_ORDERS):
    CHECKS[f"runs_order_wrong_{n}"] = lambda w, o=o: w.rest("POST", "runs/search", {"experiment_ids": ["0"], "order_by": o})


@check
def orders_of_runs(w):
    e = five(w)
    return {str(o): searched(w, e, order=o) for o in ORDERS}


@check
def runs_in_a_list(w):
    e = five(w)
    ids = {r.info.run_name: r.info.run_id for r in w.client.search_runs([e])}
    some = f"('{ids['run 1']}', '{ids['run 3']}')"
    return [searched(w, e, f"run_id IN {some}"), searched(w, e, f"attributes.run_id NOT IN {some}"), searched(w, e, f"run_id = '{ids['run 2']}'")]


@check
def pages_of_runs(w):
    e = five(w)
    got, token = [], None
    while token != "":
        page = w.client.search_runs([e], order_by=["metrics.acc"], max_results=2, page_token=token)
        got.append([r.info.run_name for r in page])
        token = page.token or ""
    return got


@check
def search_runs_gives_a_table(w):
    e = five(w)
    table = mlflow.search_runs([e], "metrics.acc > 0", order_by=["metrics.acc DESC"])
    return [table["params.lr"].tolist(), table["metrics.acc"].tolist(), table["tags.a b"].tolist(), table["status"].tolist()]


@check
def runs_are_searched_whole(w):
    e = w.experiment()
    r = w.run(e)
    w.client.log_batch(r, [Metric("m", 1.5, 2, 3)], [Param("p", "1")], [])
    return w.rest("POST", "runs/search", {"experiment_ids": [e], "max_results": 5})


for n, body in enumerate([{"experiment_ids": []}, {}, {"experiment_ids": ["99999"]}, {"experiment_ids": ["x"]}, {"experiment_ids": "0"}, {"experiment_ids": ["0"], "max_results": 50001},
                          {"experiment_ids": ["0"], "max_results": 0}, {"experiment_ids": ["0"], "max_results": -3}, {"experiment_ids": ["0"], "max_results": "many"},
                          {"experiment_ids": ["0"], "page_token": "!!"}, {"experiment_ids": ["0"], "page_token": "e30="}, {"experiment_ids": ["0"], "page_token": "eHk="},
                          {"experiment_ids": ["0"], "order_by": "x"}, {"experiment_ids": ["0"], "filter": 5}]):
    rest(f"runs_search_bad_{n}", "POST", "runs/search", body)


@check
def runs_of_several_experiments(w):
    es = [w.experiment(), w.experiment()]
    for n, e in enumerate(es):
        w.client.create_run(e, start_time=n, run_name=f"r{n}")
    return [r.info.run_name for r in w.client.search_runs(es)]


# Inputs, artifacts.

@check
def datasets_are_inputs(w):
    r = w.run()
    d = {"dataset": {"name": "d", "digest": "x", "source_type": "t", "source": "s", "schema": "{}", "profile": "{}"}, "tags": [{"key": "mlflow.data.context", "value": "train"}]}
    got = [w.rest("POST", "runs/log-inputs", {"run_id": r, "datasets": [d, d]}), w.rest("POST", "runs/log-inputs", {"run_id": r, "datasets": [d]})]
    long = {"dataset": {**d["dataset"], "digest": "x" * 37}}
    e = w.client.get_run(r).info.experiment_id
    filters = ["dataset.name = 'd'", "dataset.digest != 'x'", "datasets.context LIKE 'tr%'", "dataset.name IN ('a', 'd')"]
    return [*got, w.rest("POST", "runs/log-inputs", {"run_id": r, "datasets": [long]}), w.rest("GET", "runs/get", query={"run_id": r})[1]["run"]["inputs"],
            [len(w.client.search_runs([e], f)) for f in filters]]


@check
def a_dataset_of_pandas_is_logged(w):
    import pandas
    mlflow.set_experiment(w.name())
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(pandas.DataFrame({"a": [1, 2]}), name="frame"), context="training")
    inputs = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    return [[i.dataset.name, i.dataset.source_type, json.loads(i.dataset.profile), {t.key: t.value for t in i.tags}] for i in inputs]


@check
def artifacts_are_put_listed_read_and_removed(w):
    r = w.run()
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(folder + "/d/e")
        for name, text in [("a.txt", "a"), ("d/b ü.txt", "bb"), ("d/e/c.bin", "ccc")]:
            with open(f"{folder}/{name}", "w") as f:
                f.write(text)
        w.client.log_artifacts(r, folder, "top")
        w.client.log_artifact(r, folder + "/a.txt")
        listed = [[(a.path, a.is_dir, a.file_size) for a in w.client.list_artifacts(r, p)] for p in (None, "top", "top/d", "top/a.txt", "none")]
        down = w.client.download_artifacts(r, "top", folder)
        read = open(down + "/d/b ü.txt").read()
    uri = w.client.get_run(r).info.artifact_uri
    return [listed, read, w.rest("GET", "artifacts/list", query={"run_id": r, "path": "top"}), w.said(lambda: mlflow.artifacts.load_text(uri + "/a.txt"))]


@check
def an_artifact_is_an_attachment(w):
    r = w.run()
    w.client.log_text(r, "<script>", "x.html")
    status, headers, body = w.server.ask("GET", "/get-artifact", query={"run_id": r, "path": "x.html"})
    return [status, headers["content-disposition"].split(";")[0], headers["x-content-type-options"], body.decode()]


@check
def an_artifact_is_removed(w):
    r = w.run()
    w.client.log_text(r, "x", "a/b.txt")
    e = w.client.get_run(r).info.experiment_id
    at = f"/api/2.0/mlflow-artifacts/artifacts/{e}/{r}/artifacts/a/b.txt"
    return [w.rest("GET", at), w.rest("DELETE", at), w.rest("GET", at)[0], [a.path for a in w.client.list_artifacts(r)]]


@check
def a_large_artifact_goes_through(w):
    import hashlib
    r = w.run()
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/big", "wb") as f:
            for n in range(40):
                f.write(bytes([n]) * (1 << 20))
        sum_of = lambda p: hashlib.sha256(open(p, "rb").read()).hexdigest()
        before = sum_of(folder + "/big")
        w.client.log_artifact(r, folder + "/big")
        os.mkdir(folder + "/down")
        return [sum_of(w.client.download_artifacts(r, "big", folder + "/down")) == before, w.client.list_artifacts(r)[0].file_size]


P = "/api/2.0/mlflow-artifacts/"
for n, path in enumerate(["artifacts/../x", "artifacts/a/../../x", "artifacts/%2e%2e/x", "artifacts/a/%252e%252e/x", "artifacts//etc/passwd", "artifacts/a%00b"]):
    CHECKS[f"artifact_path_bad_{n}"] = lambda w, path=path: [w.rest(m, P + path, b"x" if m == "PUT" else None)[0] >= 400 for m in ("GET", "PUT", "DELETE")]
for n, q in enumerate(["..", "/etc", "a/../../b", "%2e%2e"]):
    rest(f"artifact_list_bad_{n}", "GET", P + "artifacts", query={"path": q})
    CHECKS[f"artifact_list_of_run_bad_{n}"] = lambda w, q=q: w.rest("GET", "artifacts/list", query={"run_id": w.run(), "path": q})
rest("artifact_list_of_nothing", "GET", P + "artifacts", query={"path": "nothing/here"})
rest("artifact_of_no_run", "GET", "/get-artifact", query={"run_id": "0" * 32, "path": "x"})
CHECKS["artifact_that_there_is_not"] = lambda w: w.rest("GET", P + "artifacts/nothing/here")
CHECKS["parts_of_an_artifact"] = lambda w: w.rest("POST", P + "mpu/create/a/b", {"path": "b", "num_parts": 2})


# Logged models.

@check
def a_logged_model_is_made_measured_and_finalized(w):
    e = w.experiment()
    r = w.run(e)
    body = {"experiment_id": e, "name": "lm", "source_run_id": r, "model_type": "t", "params": [{"key": "a", "value": "b"}], "tags": [{"key": "c", "value": "d"}]}
    made = w.rest("POST", "logged-models", body)
    m = made[1]["model"]["info"]["model_id"]
    metric = {"key": "acc", "value": 0.5, "timestamp": 7, "step": 1, "model_id": m, "dataset_name": "d", "dataset_digest": "x"}
    got = [made, w.rest("POST", "runs/outputs", {"run_id": r, "models": [{"model_id": m, "step": 3}]}), w.rest("POST", "runs/log-batch", {"run_id": r, "metrics": [metric]}),
           w.rest("POST", "runs/log-metric", {"run_id": r, **metric, "key": "one"}), w.rest("PATCH", f"logged-models/{m}", {"model_id": m, "status": "LOGGED_MODEL_READY"}),
           w.rest("PATCH", f"logged-models/{m}/tags", {"tags": [{"key": "c", "value": "e"}, {"key": "f", "value": "g"}]}), w.rest("DELETE", f"logged-models/{m}/tags/f"),
           w.rest("DELETE", f"logged-models/{m}/tags/f"), w.rest("POST", f"logged-models/{m}/params", {"model_id": m, "params": [{"key": "more", "value": "1"}]}),
           w.rest("GET", f"logged-models/{m}"), w.rest("GET", "runs/get", query={"run_id": r}), w.rest("GET", f"logged-models/{m}/artifacts/directories")]
    w.client.delete_logged_model(m)
    return [*got, w.rest("GET", f"logged-models/{m}")]


for n, body in enumerate([{}, {"experiment_id": "99999"}, {"experiment_id": "0", "name": "a/b"}, {"experiment_id": "0", "name": "a.b"}, {"experiment_id": 5}, {"experiment_id": "0", "params": "x"}]):
    rest(f"logged_models_bad_{n}", "POST", "logged-models", body)
rest("a_logged_model_that_there_is_not", "GET", "logged-models/m-" + "0" * 32)
rest("a_logged_model_that_is_not_tagged", "PATCH", "logged-models/m-" + "0" * 32 + "/tags", {"tags": []})


@check
def logged_models_are_searched(w):
    e = w.experiment()
    r = w.run(e)
    for n in range(1, 4):
        m = w.client.create_logged_model(e, name=f"lm{n}", model_type="kind", params={"d": str(n)}, tags={"t": "x"}, source_run_id=r)
        w.client.log_metric(r, "acc", n / 10, timestamp=n, model_id=m.model_id, dataset_name="train" if n == 1 else "test", dataset_digest="z")
        time.sleep(0.003)
    def found(filter=None, **more):
        return w.said(lambda: [m.name for m in w.client.search_logged_models([e], filter, **more)])
    first = w.client.search_logged_models([e], max_results=2)
    return [found(), found("metrics.acc > 0.15"), found("params.d = '2'"), found("tags.t = 'x' AND name LIKE 'lm%'"), found("name IN ('lm1', 'lm3')"),
            found("model_type = 'kind' and creation_time > 5"), found(order_by=[{"field_name": "metrics.acc", "ascending": False}]), found(order_by=[{"field_name": "name"}]),
            found(datasets=[{"dataset_name": "train"}]), found("metrics.acc > 0", datasets=[{"dataset_name": "test", "dataset_digest": "z"}]),
            [m.name for m in first], found(page_token=first.token, max_results=2), found("foo.x = 'a'"), found("metrics.acc LIKE 'x'"), found(order_by=[{"field_name": "params.d"}]),
            found("metrics.acc > 0.1 OR metrics.acc < 5")]


# The registry.

def version(w, name, **more):
    return w.rest("POST", "model-versions/create", {"name": name, "source": "s3://bucket/m", **more})


@check
def a_model_is_registered(w):
    n = w.name()
    return [w.rest("POST", "registered-models/create", {"name": n, "description": "d", "tags": [{"key": "a", "value": "b"}]}), w.rest("POST", "registered-models/create", {"name": n}),
            version(w, n, description="v", run_link="l", tags=[{"key": "c", "value": "d"}]), version(w, n), w.rest("GET", "registered-models/get", query={"name": n}),
            w.rest("GET", "model-versions/get", query={"name": n, "version": "1"}), w.rest("GET", "model-versions/get-download-uri", query={"name": n, "version": "1"})]


@check
def a_registered_model_is_changed(w):
    n = w.name()
    w.client.create_registered_model(n)
    version(w, n)
    got = [w.rest("PATCH", "registered-models/update", {"name": n, "description": "new"}), w.rest("POST", "registered-models/set-tag", {"name": n, "key": "k", "value": "v"}),
           w.rest("DELETE", "registered-models/delete-tag", {"name": n, "key": "k"}), w.rest("DELETE", "registered-models/delete-tag", {"name": n, "key": "k"}),
           w.rest("POST", "registered-models/rename", {"name": n, "new_name": n + "-x"}), w.rest("GET", "registered-models/get", query={"name": n})]
    w.client.create_registered_model(n)
    return [*got, w.rest("POST", "registered-models/rename", {"name": n, "new_name": n + "-x"}), w.rest("DELETE", "registered-models/delete", {"name": n + "-x"}),
            w.rest("GET", "model-versions/get", query={"name": n + "-x", "version": "1"})]


@check
def a_version_is_changed(w):
    n = w.name()
    w.client.create_registered_model(n)
    for _ in range(3):
        version(w, n)
    q = {"name": n, "version": "1"}
    return [w.rest("PATCH", "model-versions/update", {**q, "description": "new"}), w.rest("POST", "model-versions/set-tag", {**q, "key": "k", "value": "v"}),
            w.rest("POST", "model-versions/set-tag", {**q, "key": "l", "value": "v"}), w.rest("DELETE", "model-versions/delete-tag", {**q, "key": "l"}),
            w.rest("POST", "model-versions/transition-stage", {**q, "stage": "production", "archive_existing_versions": False}),
            w.rest("POST", "model-versions/transition-stage", {**q, "version": "2", "stage": "Production", "archive_existing_versions": True}),
            w.rest("POST", "model-versions/transition-stage", {**q, "stage": "nowhere"}), w.rest("POST", "model-versions/transition-stage", {**q, "stage": "None", "archive_existing_versions": True}),
            w.rest("GET", "model-versions/get", query=q), sorted(str(v) for v in w.rest("POST", "registered-models/get-latest-versions", {"name": n})[1]["model_versions"] and
                [(v["version"], v["current_stage"]) for v in w.rest("POST", "registered-models/get-latest-versions", {"name": n})[1]["model_versions"]]),
            w.rest("GET", "registered-models/get-latest-versions", query={"name": n, "stages": ["Production"]}), w.rest("POST", "registered-models/get-latest-versions", {"name": n, "stages": ["x"]}),
            w.rest("DELETE", "model-versions/delete", {**q, "version": "3"}), w.rest("GET", "model-versions/get", query={**q, "version": "3"}), version(w, n)[1]["model_version"]["version"]]


@check
def aliases_stand_for_versions(w):
    n = w.name()
    w.client.create_registered_model(n)
    version(w, n), version(w, n)
    w.client.set_registered_model_alias(n, "best", "1")
    got = [w.client.get_model_version_by_alias(n, "best").version]
    w.client.set_registered_model_alias(n, "best", 2)
    w.client.set_registered_model_alias(n, "other", 2)
    got += [w.rest("GET", "registered-models/alias", query={"name": n, "alias": "best"}), w.client.get_registered_model(n).aliases, sorted(w.client.get_model_version(n, 2).aliases),
            w.client.get_model_version_by_alias(n, "latest").version]
    w.client.delete_registered_model_alias(n, "best")
    w.client.delete_registered_model_alias(n, "best")
    bad = [("a b", "1"), ("", "1"), ("latest", "1"), ("v5", "1"), ("x" * 256, "1"), ("ok", "9"), ("ok", "x"), ("ok", "")]
    got += [w.rest("POST", "registered-models/alias", {"name": n, "alias": a, "version": v}) for a, v in bad]
    got += [w.rest("GET", "registered-models/alias", query={"name": n, "alias": "best"}), w.rest("DELETE", "registered-models/alias", {"name": "none such", "alias": "a"})]
    w.client.delete_model_version(n, "2")
    return [*got, w.client.get_registered_model(n).aliases]


@check
def registered_models_are_searched(w):
    n = w.check
    for k in "abC":
        w.client.create_registered_model(f"{n}-{k}", tags={"only": n, "k": k})
        version(w, f"{n}-{k}", run_id="", tags=[{"key": "only", "value": n}])
        time.sleep(0.003)
    def models(filter, **more):
        return w.said(lambda: [m.name for m in w.client.search_registered_models(filter, **more)])
    def versions(filter, **more):
        return w.said(lambda: [[v.name, v.version] for v in w.client.search_model_versions(filter, **more)])
    own = f"tags.only = '{n}'"
    first = w.client.search_registered_models(own, max_results=2)
    return [models(own), models(own, order_by=["name DESC"]), models(own, order_by=["timestamp DESC"]), models(f"name LIKE '{n}-%'"), models(f"name ILIKE '{n}-c'"), models(f"name = '{n}-a'"),
            models(f"name IN ('{n}-a', '{n}-b')"), models(f"{own} AND tags.k != 'a'"), [m.name for m in first], models(own, max_results=2, page_token=first.token), models("foo = 'a'"), models("name > 'a'"),
            models("run_id = 'a'"), models(own, order_by=["foo"]), models("name = 5"), models("tags.a > 'x'"), models("metrics.x > 1"), versions(own), versions(f"name = '{n}-a'"), versions(f"name LIKE '{n}%' AND version_number = 1", order_by=["name ASC"]),
            versions(f"{own} AND source_path = 's3://bucket/m'", order_by=["version_number DESC", "name"]), versions("foo = 'x'"), versions("version_number = 'x'"), versions("version_number LIKE 'x'"), versions(own, order_by=["foo"]), versions("source_path IN ('a')")]


for n, (method, path, body) in enumerate([
        ("POST", "registered-models/create", {}), ("POST", "registered-models/create", {"name": " "}), ("POST", "registered-models/create", {"name": "a/b"}),
        ("POST", "registered-models/create", {"name": "a:b"}), ("POST", "registered-models/create", {"name": ".."}), ("POST", "registered-models/create", {"name": 5}),
        ("POST", "registered-models/create", {"name": "bad tag", "tags": [{"key": "a*", "value": "b"}]}), ("PATCH", "registered-models/update", {"name": "none such"}),
        ("POST", "registered-models/rename", {"name": "none such", "new_name": "x"}), ("POST", "registered-models/rename", {"name": "none such"}), ("POST", "registered-models/rename", {"name": "none such", "new_name": "a/b"}),
        ("DELETE", "registered-models/delete", {"name": "none such"}), ("DELETE", "registered-models/delete", {}), ("POST", "registered-models/set-tag", {"name": "none such", "key": "a", "value": "b"}),
        ("POST", "registered-models/set-tag", {"name": "none such"}), ("POST", "model-versions/create", {}), ("POST", "model-versions/create", {"name": "none such"}),
        ("POST", "model-versions/create", {"name": "none such", "source": "s3://x"}), ("PATCH", "model-versions/update", {"name": "none such", "version": "1"}),
        ("PATCH", "model-versions/update", {"name": "none such", "version": "x"}), ("DELETE", "model-versions/delete", {"name": "none such", "version": "1"}),
        ("POST", "model-versions/set-tag", {"name": "none such", "version": "1", "key": "k", "value": "v"}), ("POST", "model-versions/transition-stage", {"name": "none such", "version": "1", "stage": "Staging"})]):
    rest(f"registry_bad_{n}", method, path, body)
rest("a_registered_model_that_there_is_not", "GET", "registered-models/get", query={"name": "none such"})
rest("a_registered_model_without_a_name", "GET", "registered-models/get")
rest("a_version_that_is_no_number", "GET", "model-versions/get", query={"name": "none such", "version": "one"})
rest("too_many_registered_models", "GET", "registered-models/search", query={"max_results": 1001})
rest("too_many_versions", "GET", "model-versions/search", query={"max_results": 200001})


@check
def what_a_version_may_be_made_of(w):
    n = w.name()
    w.client.create_registered_model(n)
    e = w.experiment()
    r, other = w.run(e), w.run(e)
    m = w.client.create_logged_model(e, name="lm", source_run_id=r)
    root = w.client.get_run(r).info.artifact_uri
    tries = [{"source": f"runs:/{r}/model", "run_id": r}, {"source": f"runs:/{r}/model", "run_id": other}, {"source": f"runs:/{r}/model"}, {"source": root + "/model", "run_id": r},
             {"source": root + "/model", "run_id": other}, {"source": root + "/model"}, {"source": f"{root}/../../x", "run_id": r}, {"source": f"models:/{m.model_id}", "model_id": m.model_id},
             {"source": f"models:/{m.model_id}"}, {"source": f"models:/{n}/1"}, {"source": f"models:/{n}/99"}, {"source": "/etc/passwd"}, {"source": "file:///etc/passwd", "run_id": r},
             {"source": "s3://b/../x"}, {"source": "s3://b/x", "model_id": m.model_id}, {"source": "models:/m-" + "0" * 32, "model_id": "m-" + "0" * 32}, {"source": m.artifact_location, "model_id": m.model_id}]
    got = [w.rest("POST", "model-versions/create", {"name": n, **t}) for t in tries]
    return [*got, w.client.get_logged_model(m.model_id).tags]


# The real thing.

def trained():
    from sklearn.linear_model import LogisticRegression
    x, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    return LogisticRegression().fit(x, y), x


@check
def a_model_of_scikit_learn_is_logged_registered_and_loaded(w):
    n = w.name()
    mlflow.set_experiment(w.name())
    model, x = trained()
    with mlflow.start_run() as run:
        info = mlflow.sklearn.log_model(model, name="model", input_example=x[:1], registered_model_name=n, serialization_format="cloudpickle")
    w.client.set_registered_model_alias(n, "champion", 1)
    loaded = [mlflow.sklearn.load_model(u).predict(x).tolist() for u in (f"models:/{n}@champion", f"models:/{n}/1", f"models:/{info.model_id}", f"runs:/{run.info.run_id}/model")]
    again = mlflow.register_model(f"models:/{info.model_id}", n)
    got = w.client.get_logged_model(info.model_id)
    return [loaded, again.version, got.status.name, got.name, json.loads(got.tags["mlflow.modelVersions"]), sorted(a.path for a in w.client.list_logged_model_artifacts(info.model_id)),
            mlflow.pyfunc.load_model(f"models:/{n}/2").predict(x).tolist(), [o.model_id == info.model_id for o in mlflow.get_run(run.info.run_id).outputs.model_outputs]]


@check
def autolog_tracks_a_training(w):
    mlflow.set_experiment(w.name())
    mlflow.sklearn.autolog(serialization_format="cloudpickle") if False else mlflow.sklearn.autolog(log_models=False)
    try:
        with mlflow.start_run() as run:
            trained()
    finally:
        mlflow.sklearn.autolog(disable=True)
    got = mlflow.get_run(run.info.run_id)
    return [sorted(got.data.params), sorted(got.data.metrics), got.data.tags.get("estimator_name"), got.info.status, sorted(a.path for a in w.client.list_artifacts(run.info.run_id))]


# The rest.

rest("there_is_no_such_version_of_a_version", "GET", "model-versions/get", query={"name": "x"})
rest("it_lives", "GET", "/health")
rest("its_version", "GET", "/version")


@check
def the_mirror_answers_too(w):
    e = w.experiment()
    return [w.rest("GET", "/ajax-api/2.0/mlflow/experiments/get", query={"experiment_id": e}), w.rest("POST", "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": [e]})]


@check
def what_is_not_there_is_not_found(w):
    return [w.rest("GET", "nothing/here")[0], w.rest("POST", "experiments/nothing", {})[0], w.rest("GET", "/api/2.0/mlflow-artifacts/nothing")[0]]
