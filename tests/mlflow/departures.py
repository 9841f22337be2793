"""Where our answers are not the real server's, on purpose: why, and what ours are in place of its. Each names the check, the place in
its answer, and our value there; everything else of the answer is the real server's."""

OK = "it answers 200 and keeps something else than was sent, or fails with 500; ours says what is wrong"
DOCS = " See the API docs for more information about request parameters."


def invalid(message):
    return {"error_code": "INVALID_PARAMETER_VALUE", "message": message}


def sort(value, field, kind):
    return [400, invalid(f"Invalid value {value} for parameter '{field}' supplied:  Hint: Value was of type '{kind}'.{DOCS}")]


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
