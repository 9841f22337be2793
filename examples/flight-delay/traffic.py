#!/usr/bin/env python3
"""Asks the model about the flights of a month, one after the other, and says whether each came late: what a rollout judges by.

Usage: traffic.py URL data/flights-2013-02.csv data/weather.csv [SECONDS [A_SECOND]]

Asks 100 times A_SECOND unless said otherwise. The weather is what was known when a flight was to depart: the hour before. Ends with
SIGTERM, or after SECONDS. Needs nothing beside Python.
"""

import csv
import http.client
import json
import signal
import sys
import time
import urllib.parse
from datetime import datetime, timedelta, timezone

NEW_YORK = timezone(timedelta(hours=-5))
WEATHER = ("temp", "wind_speed", "precip", "visib", "pressure")


def number(text):
    return None if text in ("", "NA") else float(text)


def moment(row):
    return datetime(int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]), tzinfo=NEW_YORK)


def weather(path):
    known = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = moment(row)
            known[row["origin"], at] = [number(row[name]) for name in WEATHER]
    return known


def flights(path, known):
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            late = number(row["arr_delay"])
            if late is None:
                continue
            at = moment(row)
            before = known.get((row["origin"], at - timedelta(hours=1)))
            if before is None:
                continue
            utc = at.astimezone(timezone.utc)
            # Monday is 1, as in SQL.
            row_of = {"hour": utc.hour, "weekday": utc.isoweekday() % 7, "carrier": row["carrier"], "origin": row["origin"], "dest": row["dest"], "distance": float(row["distance"])}
            row_of.update(zip(WEATHER, before))
            yield f"{row['carrier']}{row['flight']}-{row['origin']}-{at:%m%d}", row_of, int(late > 15)


def ask(connection, method, path, body, headers=None):
    connection.request(method, path, json.dumps(body), {"content-type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    return answer, answer.read()


def main():
    if len(sys.argv) not in (4, 5, 6):
        sys.exit(__doc__)
    url = urllib.parse.urlsplit(sys.argv[1])
    began = time.monotonic()
    until = began + float(sys.argv[4]) if len(sys.argv) > 4 else float("inf")
    rate = float(sys.argv[5]) if len(sys.argv) > 5 else 100.0
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    all_flights = list(flights(sys.argv[2], weather(sys.argv[3])))
    versions, failed, labels, asked = {}, 0, [], 0
    while not stopped and time.monotonic() < until:
        time.sleep(max(0.0, began + asked / rate - time.monotonic()))
        entity, row, late = all_flights[asked % len(all_flights)]
        # The month again is other flights.
        entity, asked = f"{entity}-{asked // len(all_flights)}", asked + 1
        body = {"dataframe_records": [row]}
        answer, _ = ask(connection, "POST", "/invocations?model=delay", body, {"forebay-entity": entity})
        if answer.status != 200:
            failed += 1
            continue
        version = answer.headers["forebay-model-version"]
        versions[version] = versions.get(version, 0) + 1
        labels.append({"id": answer.headers["x-request-id"], "label": late})
        if len(labels) >= 50:
            answer, said = ask(connection, "POST", "/v1/feedback", labels)
            assert answer.status == 202, said
            labels = []
    shares = ", ".join(f"version {v}: {n}" for v, n in sorted(versions.items()))
    print(f"{asked} flights were asked about, {failed} without an answer; {shares}")


if __name__ == "__main__":
    main()
