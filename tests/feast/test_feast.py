"""Feast's own client, unmodified: the server is its remote online store."""

import datetime
import shutil
import time

import pandas
import pytest
from feast import FeatureStore, RepoConfig
from stack import NOW, Forebay, ago, post

ALL = ["driver_stats:conv_rate", "driver_stats:acc_rate", "driver_stats:avg_daily_trips", "driver_stats:city"]


def rows(*drivers):
    return [{"driver_id": driver} for driver in drivers]


def pushed(driver, happened, rate, city="Davos"):
    return pandas.DataFrame({
        "driver_id": [driver], "event_timestamp": [happened], "created": [happened], "conv_rate": [rate],
        "acc_rate": [0.5], "avg_daily_trips": [7], "city": [city],
    })


@pytest.fixture(scope="session", autouse=True)
def materialized(forebay):
    status, done = post(f"{forebay.url}/materialize-incremental", {"end_ts": datetime.datetime.now(datetime.timezone.utc).isoformat()})
    assert status == 200, done
    assert {view["view"] for view in done["feature_views"]} == {"driver_stats", "prices", "secret"}


def test_features_are_those_of_the_newest_row_that_is_known(store):
    found = store.get_online_features(features=ALL, entity_rows=rows(1001, 1002)).to_dict()
    assert found["driver_id"] == [1001, 1002]
    assert found["conv_rate"] == [0.2, 0.3]
    assert found["acc_rate"] == [0.6, None]
    assert found["avg_daily_trips"] == [20, 30]
    assert found["city"] == ["Bern", "Basel"]


def test_who_is_unknown_or_too_old_has_nothing(store):
    answer = store.get_online_features(features=["driver_stats:conv_rate"], entity_rows=rows(1003, 4711))
    assert answer.to_dict()["conv_rate"] == [None, None]
    statuses = [int(s) for s in answer.proto.results[1].statuses]
    assert statuses == [4, 3], "OUTSIDE_MAX_AGE, NOT_FOUND"


def test_names_may_be_full(store):
    answer = store.get_online_features(features=ALL[:1], entity_rows=rows(1001), full_feature_names=True)
    assert answer.to_dict()["driver_stats__conv_rate"] == [0.2]


def test_a_feature_service_is_a_list_of_features(store):
    service = store.get_feature_service("driver_activity")
    answer = store.get_online_features(features=service, entity_rows=rows(1002)).to_dict()
    assert answer == {"driver_id": [1002], "conv_rate": [0.3], "city": ["Basel"]}


def test_a_push_is_served_at_once_and_a_late_one_never(store):
    store.push("driver_stats_push", pushed(2001, ago(minutes=10), 0.7))
    store.push("driver_stats_push", pushed(2001, ago(minutes=20), 0.1, "Late"))
    answer = store.get_online_features(features=ALL, entity_rows=rows(2001)).to_dict()
    assert (answer["conv_rate"], answer["city"]) == ([0.7], ["Davos"])


def test_what_was_written_and_pushed_is_there_after_kill_9(forebay, store):
    store.write_to_online_store("driver_stats", pushed(2002, ago(minutes=5), 0.8))
    forebay.kill()
    forebay.start()
    store.config.online_store.path = forebay.url
    answer = store.get_online_features(features=ALL, entity_rows=rows(2002, 1001)).to_dict()
    assert answer["conv_rate"] == [0.8, 0.2]


def test_a_push_may_go_to_the_dataset_too_and_online_is_offline_then(forebay, store):
    frame = pushed(2003, ago(minutes=4), 0.6)
    body = {"driver_id": [2003], "event_timestamp": [ago(minutes=4).isoformat()], "conv_rate": [0.6], "acc_rate": [0.5],
            "avg_daily_trips": [7], "city": ["Davos"]}
    status, taken = post(f"{forebay.url}/push", {"push_source_name": "driver_stats_push", "df": body, "to": "online_and_offline"})
    assert (status, taken) == (200, {"rows": 1}), frame
    assert post(f"{forebay.url}/materialize", {"disable_event_timestamp": True})[0] == 200
    frame = pandas.DataFrame({"driver_id": [1001, 1002, 1003, 2003, 4711]})
    frame.to_parquet(forebay.folder / "drivers.parquet")
    parity = forebay.run("features", "parity", "driver_stats", "--entities", str(forebay.folder / "drivers.parquet"))
    view = parity["views"][0]
    assert (view["differing"], view["values"]) == (0, 20), view
    # What was pushed online alone is no part of the datasets, and is told.
    frame = pandas.DataFrame({"driver_id": [2001]})
    frame.to_parquet(forebay.folder / "drivers.parquet")
    parity = forebay.run("features", "parity", "driver_stats", "--entities", str(forebay.folder / "drivers.parquet"), codes=(1,))
    assert parity["views"][0]["differing"] == 4


def test_a_view_may_be_a_query(forebay):
    status, found = post(f"{forebay.url}/get-online-features", {"features": ["prices:price"], "entities": {"city": ["Bern", "Basel", "Ur"]}})
    assert status == 200, found
    assert found["metadata"] == {"feature_names": ["city", "price"]}
    assert found["results"][1]["values"] == [15.0, 7.5, None]
    assert found["results"][1]["statuses"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    assert found["results"][1]["event_timestamps"][2] == "1970-01-01T00:00:00Z"


def test_what_is_wrong_or_another_tenants_is_refused_with_its_name(forebay, store):
    def ask(body):
        return post(f"{forebay.url}/get-online-features", body)

    one = {"driver_id": [1]}
    for body, status, said in [
        ({"features": ["secret:conv_rate"], "entities": one}, 404, "secret"),
        ({"features": ["driver_stats:speed"], "entities": one}, 400, "speed"),
        ({"features": ["driver_stats:conv_rate"], "entities": {"id": [1]}}, 400, "driver_id"),
        ({"features": ["driver_stats:conv_rate"], "entities": {"driver_id": ["x"]}}, 400, "driver_id"),
        ({"feature_service": "nothing", "entities": one}, 404, "nothing"),
        ({"entities": one}, 400, "features"),
    ]:
        found = ask(body)
        assert found[0] == status and said in found[1]["error"]["message"], (body, found)
    body = {"driver_id": [1], "event_timestamp": [NOW.isoformat()], "conv_rate": [0.1]}
    refused = post(f"{forebay.url}/write-to-online-store", {"feature_view_name": "driver_stats", "df": body})
    assert refused[0] == 400 and "acc_rate" in refused[1]["error"]["message"], refused


def test_a_server_with_keys_is_asked_with_one(forebay, tmp_path):
    closed = Forebay(tmp_path)
    text = (tmp_path / "forebay.yaml").read_text()
    (tmp_path / "forebay.yaml").write_text("auth: {required: true}\n" + text)
    shutil.copytree(forebay.folder / ".forebay/data", tmp_path / ".forebay/data")
    key = closed.run("key", "create", "--name", "feast", "--tenant", "somebody_else")["key"]
    closed.start()
    try:
        ask = {"features": ["secret:conv_rate"], "entities": {"driver_id": [1002]}}
        assert post(f"{closed.url}/get-online-features", ask)[0] == 401
        assert post(f"{closed.url}/materialize", {"disable_event_timestamp": True})[0] == 401
        with_key = FeatureStore(config=RepoConfig(**{  # a token of one's own goes out as it is
            "project": "drivers", "provider": "local", "registry": str(tmp_path / "registry.db"),
            "online_store": {"type": "remote", "path": closed.url}, "offline_store": {"type": "duckdb"},
            "entity_key_serialization_version": 3, "auth": {"type": "oidc", "token": key},
        }))
        features = ["driver_stats:conv_rate", "secret:conv_rate"]
        for _ in range(200):
            found = with_key.get_online_features(features, entity_rows=rows(1002), full_feature_names=True).to_dict()
            if found["secret__conv_rate"] == [0.3]:
                break
            time.sleep(0.05)
        assert found["driver_stats__conv_rate"] == found["secret__conv_rate"] == [0.3]
    finally:
        closed.stop()


def test_a_training_set_knows_the_versions_it_is_of(forebay):
    entities = pandas.DataFrame({"driver_id": [1001, 1001], "at": [ago(hours=4), ago(hours=2, minutes=30)], "y": [0, 1]})
    entities.to_parquet(forebay.folder / "entities.parquet")
    out = forebay.folder / "training.parquet"
    command = ["features", "train", "--entities", str(forebay.folder / "entities.parquet"), "--time", "at", "--service",
               "driver_activity", "-o", str(out)]
    made = forebay.run(*command, "--as-of", "event")
    assert made["views"][0]["versions"]["driver_stats"] >= 0
    # As somebody would have known then: the row that came late is not seen.
    assert pandas.read_parquet(out)["conv_rate"].tolist() == [0.1, 0.1]
    assert (forebay.folder / "training.parquet.versions.json").exists()
    made = forebay.run(*command)
    assert pandas.read_parquet(out)["conv_rate"].tolist() == [0.1, 0.9]
    made = forebay.run(*command[:-2], "--into", "training")
    assert made["dataset"] == {"name": "training", "version": 0}


def test_freshness_is_a_metric(forebay):
    import urllib.request

    text = urllib.request.urlopen(f"{forebay.url}/metrics").read().decode()
    assert 'feature_view_entities{view="driver_stats"}' in text
    age = [line for line in text.splitlines() if "feature_view_newest_event_age_seconds{" in line and "driver_stats" in line]
    assert age and 0 < int(age[0].split()[-1]) < 3600 * 3, text
