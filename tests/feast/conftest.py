import datetime

import pandas
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.types import Float64, Int64, String
from stack import Forebay, ago

ROWS = [
    # driver, happened, became known, conv_rate, acc_rate, trips, city
    (1001, ago(hours=5), ago(hours=4), 0.1, 0.5, 10, "Bern"),
    (1001, ago(hours=2), ago(hours=2), 0.2, 0.6, 20, "Bern"),
    # Came last, and is of before.
    (1001, ago(hours=3), ago(minutes=1), 0.9, 0.9, 90, "Late"),
    (1002, ago(hours=1), ago(hours=1), 0.3, None, 30, "Basel"),
    # Older than the TTL.
    (1003, ago(days=3), ago(days=3), 0.4, 0.8, 40, "Chur"),
]
COLUMNS = ["driver_id", "event_timestamp", "created", "conv_rate", "acc_rate", "avg_daily_trips", "city"]




@pytest.fixture(scope="session")
def forebay(tmp_path_factory):
    forebay = Forebay(tmp_path_factory.mktemp("forebay"))
    rows = pandas.DataFrame(ROWS, columns=COLUMNS)
    rows.to_parquet(forebay.folder / "driver_stats.parquet")
    prices = pandas.DataFrame({
        "city": ["Bern", "Bern", "Basel"],
        "day": [ago(days=1).date(), ago(days=1).date(), ago(days=2).date()],
        "price": [10.0, 20.0, 7.5],
    })
    prices.to_parquet(forebay.folder / "prices.parquet")
    for name in ["driver_stats", "prices"]:
        forebay.run("data", "add", name, str(forebay.folder / f"{name}.parquet"))
    forebay.start()
    yield forebay
    forebay.stop()


@pytest.fixture
def store(forebay, tmp_path):
    """A Feast repository, as its documentation makes one, but for `online_store`."""
    config = RepoConfig(
        project="drivers",
        provider="local",
        registry=str(tmp_path / "registry.db"),
        online_store={"type": "remote", "path": forebay.url},
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    driver = Entity(name="driver", join_keys=["driver_id"])
    batch = FileSource(
        path=str(forebay.folder / "driver_stats.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    push = PushSource(name="driver_stats_push", batch_source=batch)
    schema = [
        Field(name="conv_rate", dtype=Float64),
        Field(name="acc_rate", dtype=Float64),
        Field(name="avg_daily_trips", dtype=Int64),
        Field(name="city", dtype=String),
    ]
    view = FeatureView(
        name="driver_stats", entities=[driver], ttl=datetime.timedelta(days=1), schema=schema, source=push
    )
    service = FeatureService(name="driver_activity", features=[view[["conv_rate", "city"]]])
    store.apply([driver, view, service])
    return store
