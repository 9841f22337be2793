"""Where our answers are not the real server's, on purpose: why, and what ours are in place of its. Each names the check, the place in
its answer, and our value there; everything else of the answer is the real server's."""

OK = "it answers 200 and keeps something else than was sent, or fails with 500; ours says what is wrong"
DOCS = " See the API docs for more information about request parameters."


def invalid(message):
    return {"error_code": "INVALID_PARAMETER_VALUE", "message": message}


def sort(value, field, kind):
    return [400, invalid(f"Invalid value {value} for parameter '{field}' supplied:  Hint: Value was of type '{kind}'.{DOCS}")]


def no_event(said):
    entities = "REGISTERED_MODEL, MODEL_VERSION, MODEL_VERSION_TAG, MODEL_VERSION_ALIAS, PROMPT, PROMPT_VERSION, PROMPT_TAG, PROMPT_VERSION_TAG, PROMPT_ALIAS, BUDGET_POLICY"
    return [400, invalid(f"Invalid webhook event {said}: its entity is one of {entities}, its action one of CREATED, UPDATED, DELETED, SET, EXCEEDED.")]


def no_status(said):
    return [400, invalid(f"Invalid webhook status {said}: it is one of ACTIVE, DISABLED.")]


FAILS = "it fails with 500; ours says what is wrong"

DEPARTURES = {
    "runs_log_metric_wrong_8": (OK, {(): sort("[1]", "value", "list")}),
    "runs_log_metric_wrong_9": (OK, {(): sort("true", "value", "bool")}),
    "runs_log_metric_wrong_14": (OK, {(): sort("1.5", "step", "float")}),
    "a_body_that_is_no_json": (
        "its answer is the text of a statement that its database refused",
        {(): [400, invalid(f"Missing value for required parameter 'experiment_id'.{DOCS}")]},
    ),
    "a_body_that_is_a_list": (
        "a path that is asked by another method is no endpoint",
        {(): [404, {"error_code": "ENDPOINT_NOT_FOUND", "message": "There is no endpoint POST /api/2.0/mlflow/runs/get on this server."}]},
    ),
    "artifact_path_bad_4": ("no path may begin at a root, also to be removed", {(2,): True}),
    "artifact_path_bad_5": ("no path may hold U+0000", {(1,): True, (2,): True}),
    "logged_models_are_searched": (
        "it takes a dataset that is given by its name alone for one whose digest is null, and finds nothing",
        {(8,): ["lm1"]},
    ),
    "events_of_webhooks": (FAILS, {
        (0,): no_event("{}"), (1,): no_event('{"entity":"REGISTERED_MODEL"}'), (2,): no_event('{"action":"CREATED"}'),
        (8,): no_event('{"entity":"ENTITY_UNSPECIFIED","action":"CREATED"}'), (9,): no_event('{"entity":"REGISTERED_MODEL","action":"ACTION_UNSPECIFIED"}'),
    }),
    "events_of_webhooks_that_are_none": (FAILS, {
        (0,): no_event('{"entity":"NOTHING","action":"CREATED"}'), (1,): no_event('{"entity":"REGISTERED_MODEL","action":"MADE"}'), (3,): no_event('"registered_model.created"'),
        (5,): no_event('{"entity":"registered_model","action":"created"}'), (6,): no_event('{"entity":99,"action":1}'),
    }),
    "an_event_that_is_there_twice": (
        "its answer is the text of a statement that its database refused; once is enough",
        {(0,): [200, {"webhook": {"creation_timestamp": "<time>", "events": [{"action": "CREATED", "entity": "REGISTERED_MODEL"}], "last_updated_timestamp": "<time>", "name": "n",
                                  "status": "ACTIVE", "url": "https://93.184.215.14/hook", "webhook_id": "<webhook1>"}}]},
    ),
    "states_of_webhooks_that_are_none": (OK, {(0,): no_status('"active"'), (1,): no_status('"PAUSED"'), (2,): no_status('""'), (5,): sort("1.5", "status", "float")}),
    "a_webhook_is_changed_badly": (OK, {(8,): no_event("{}"), (11,): no_status('"PAUSED"')}),
    "a_webhook_that_cannot_be_tested": (FAILS, {(1,): no_event("{}")}),
    "what_a_version_may_be_made_of": (
        "a source that there is not is the caller's mistake, no failure of the server",
        {(15,): [400, invalid("Invalid model version source: 'models:/<model2>'. The model_id request parameter must identify "
                              "the resource that contains the source.")]},
    ),
}


def ours(name, golden):
    """What is expected of us."""
    _, places = DEPARTURES.get(name, ("", {}))
    for place, value in places.items():
        if not place:
            return value
        of = golden
        for key in place[:-1]:
            of = of[key]
        of[place[-1]] = value
    return golden
