#!/usr/bin/env python3
"""One hour of soak with faults at moderate load: does memory, do file handles, tasks or anything held grow?

    cargo build --release -p forebay
    bench/soak/run.py --forebay target/release/forebay --minutes 60 --out bench/results/soak.md

Providers (`forebay fake-upstream`) with the sixteen faults of the wall, a few percent in all, one endpoint that flaps; callers on every
surface who stream or not, leave half way, read on, ask twice, hand in jobs; tenants with limits; a reload each minute, one in seven of a
configuration that is not sound. Every answer is checked (`callers.py`). Each ten seconds the server is looked at; slopes are taken
behind the warm-up, a quarter of the time. At the end nothing may be held, and counters must be what the ledger says.
Exits with 1 when an answer was wrong, something is still held, a sum differs, or something grew. Python's standard library only.
"""

import argparse
import asyncio
import datetime
import json
import os
import re
import sqlite3
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

import callers
import page
import setting

TICK = os.sysconf("SC_CLK_TCK")
PATH = "/v1/chat/completions"
BY_ENDPOINT = "SELECT json_extract(value, '$.endpoint'), count(*) FROM requests, json_each(record, '$.attempts') GROUP BY 1"
LINE = re.compile(r"^([a-z_0-9]+)(\{.*\})? ([-+0-9.eE]+|NaN)$")


def cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    except OSError:
        return 0.0


def status_of(pid):
    """kB by name, and threads."""
    wanted = ("VmRSS", "RssAnon", "VmHWM", "Threads")
    lines = (line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(value.split()[0]) for name, value in lines if name in wanted}


def handles(pid):
    """Open files by kind."""
    kinds = {"sockets": 0, "files": 0, "other": 0}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        kinds["sockets" if target.startswith("socket:") else "files" if target.startswith("/") else "other"] += 1
    return kinds


def size(path):
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.exists() else 0


class Metrics(dict):
    """Samples by name and labels; sums by name."""

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            if (m := LINE.match(line)) and "_bucket" not in m[1]:
                self[m[1], m[2] or ""] = float(m[3])

    def sum(self, name, having=""):
        return sum(v for (n, labels), v in self.items() if n == name and having in labels)

    def has(self, name):
        return any(n == name for n, _ in self)


async def metrics(load, key):
    status, _, body, _ = await load.client.ask("GET", "/metrics", {"authorization": f"Bearer {key}"})
    assert status == 200, (status, body[:200])
    return Metrics(body.decode())


async def sample(load, project, started):
    pid, data = project.process.pid, project.folder / ".forebay"
    memory, open_files, m = status_of(pid), handles(pid), await metrics(load, project.admin)
    return {
        "t": time.monotonic() - started,
        "rss": memory["VmRSS"] * 1024, "anon": memory["RssAnon"] * 1024, "threads": memory["Threads"],
        "fds": sum(open_files.values()), **{f"fd_{k}": v for k, v in open_files.items()},
        "tasks": m.sum("forebay_tasks") if m.has("forebay_tasks") else None,
        "in_flight": m.sum("forebay_requests_in_flight"), "leases": m.sum("forebay_leases"),
        "reserved_tokens": m.sum("forebay_reserved_tokens"), "slots": m.sum("forebay_model_slots_in_use"),
        "at_endpoints": m.sum("forebay_endpoint_in_flight"), "queued": m.sum("forebay_model_queue_requests"),
        "limit": m.sum("forebay_model_slots_limit", 'model="pooled"'),
        "streams": m.sum("forebay_open_streams"), "replay": m.sum("forebay_replay_memory_bytes"),
        "lag": m.sum("forebay_ledger_lag_bytes"), "requests": m.sum("forebay_requests_total"),
        "attempts": m.sum("forebay_attempts_total"), "reloads": m.sum("forebay_config_reloads_total"), "series": len(m),
        "db": size(data / "forebay.db"), "wal": size(data / "forebay.db-wal"), "journal": size(data / "journal"),
        "log": size(project.folder / "server.log"), "sent": load.sent, "cpu": cpu_seconds(pid), "under_way": load.under_way,
    }


async def sampler(load, project, started, out, lines):
    while True:
        out.append(await sample(load, project, started))
        try:
            lines.write(json.dumps(out[-1]) + "\n")
            lines.flush()
        except OSError:  # a full disk: the server is looked at all the same
            pass
        await asyncio.sleep(10)


async def changes(load, project, providers, every):
    """Each minute other faults and another configuration: by the file alone, by SIGHUP, by the operator's call, in turns."""
    turn = 0
    while True:
        await asyncio.sleep(every)
        turn += 1
        await asyncio.to_thread(providers.renew)
        project.write(-1 if turn % 7 == 0 else turn)
        if turn % 3 == 1:
            project.sighup()
        elif turn % 3 == 2:
            status, _, body, _ = await load.client.ask("POST", "/v1/admin/reload", {"authorization": f"Bearer {project.admin}"})
            if (status == 200) == (turn % 7 == 0):
                load.finding("reload", f"variant {turn}: {status} {body[:300]}")
        if turn % 7 == 0:
            await asyncio.sleep(5)
            project.write(turn)


async def soak(args, project, providers):
    load = callers.Callers(project, args.rate, args.seed)
    hook = await asyncio.start_server(load.hook, "127.0.0.1", project.hook_port)
    project.up()
    for _ in range(100):
        try:
            await metrics(load, project.admin)
            break
        except OSError:
            await asyncio.sleep(0.1)
    started, samples = time.monotonic(), []
    fresh = await sample(load, project, started)
    with (args.work / "samples.jsonl").open("w") as lines:
        aside = [
            asyncio.create_task(sampler(load, project, started, samples, lines)),
            asyncio.create_task(changes(load, project, providers, 60)),
        ]
        await load.run(args.minutes * 60)
        for task in aside:
            task.cancel()
        gone = [t for t in await asyncio.gather(*aside, return_exceptions=True) if not isinstance(t, asyncio.CancelledError)]
    for e in gone:
        load.finding("soak", f"{e!r}")
    cpu = {
        "server": cpu_seconds(project.process.pid), "providers": sum(cpu_seconds(p) for p in providers.pids()),
        "callers": time.process_time(), "seconds": time.monotonic() - started,
    }
    # Nobody calls any more: connections to providers go after their idle time, kept answers after theirs.
    quiet = []
    for _ in range(args.quiet // 5):
        await asyncio.sleep(5)
        quiet.append(await sample(load, project, started))
    load.client.close()
    await asyncio.sleep(1)
    end = await sample(load, project, started)
    sums = await compare(load, project, providers)
    exit_code = await asyncio.to_thread(project.stop)
    hook.close()
    load.client.close()
    return load, {"fresh": fresh, "samples": samples, "quiet": quiet, "end": end, "sums": sums, "cpu": cpu, "exit": exit_code}


async def compare(load, project, providers):
    """The same sums by the counters, by the ledger, by the providers and by a limit's own count."""
    # A limit says what was used of it once it refuses: `gold` has one, of dollars a day, which is lowered to less than was spent.
    setting.TENANTS["gold"]["budget"]["usd_per_day"] = 0.000001
    project.write(0)
    operator = {"authorization": f"Bearer {project.admin}"}
    limit = {"reload": (await load.client.ask("POST", "/v1/admin/reload", operator))[0]}
    key = next(k for tenant, _, k in project.keys if tenant == "gold")
    body = load.body("openai", "spare", "one two three", False)
    limit["status"], _, said, _ = await load.client.ask("POST", PATH, load.headers("openai", key, False), body)
    limit["said"] = json.loads(said).get("error")
    await asyncio.sleep(5)
    status, _, text, _ = await load.client.ask("GET", "/metrics", operator)
    (project.folder / "metrics.txt").write_bytes(text)
    m = Metrics(text.decode())
    db = sqlite3.connect(f"file:{project.folder / '.forebay/forebay.db'}?mode=ro", uri=True)
    one = lambda q, *a: db.execute(q, a).fetchone()[0] or 0
    ledger = {
        "requests": one("SELECT count(*) FROM requests"), "attempts": one("SELECT sum(json_array_length(record, '$.attempts')) FROM requests"),
        "input": one("SELECT sum(input_tokens) FROM requests"), "output": one("SELECT sum(output_tokens) FROM requests"),
        "cost": one("SELECT sum(cost) FROM requests"), "admitted and not settled": one("SELECT count(*) FROM admitted"),
        "cost of gold": one("SELECT sum(cost) FROM requests WHERE tenant = 'gold'"),
        "endings": dict(db.execute("SELECT ending, count(*) FROM requests GROUP BY 1").fetchall()),
        "attempts by endpoint": dict(db.execute(BY_ENDPOINT).fetchall()),
        "jobs": dict(db.execute("SELECT status, count(*) FROM runs GROUP BY 1").fetchall()),
        "deliveries": dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY 1").fetchall()),
    }
    db.close()
    counters = {
        "requests": m.sum("forebay_requests_total"), "attempts": m.sum("forebay_attempts_total"),
        "input": m.sum("forebay_tokens_total", 'direction="input"'), "output": m.sum("forebay_tokens_total", 'direction="output"'),
        "cost": round(m.sum("forebay_cost_usd_total") * 1e9), "by attempt": {k[1]: v for k, v in m.items() if k[0] == "forebay_attempts_total"},
        "reloads": {k[1]: v for k, v in m.items() if k[0] == "forebay_config_reloads_total"},
        "replays": {k[1]: v for k, v in m.items() if k[0] == "forebay_replays_total"},
        "cache": {k[1]: v for k, v in m.items() if k[0] == "forebay_cache_requests_total"},
        "sheds": {k[1]: v for k, v in m.items() if k[0] == "forebay_sheds_total"},
        "retries": {k[1]: v for k, v in m.items() if k[0] == "forebay_retries_total"},
    }
    return {"counters": counters, "ledger": ledger, "providers": await asyncio.to_thread(providers.counts), "limit": limit}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--forebay", type=Path, default=Path("target/release/forebay"))
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--rate", type=float, default=40, help="calls a second; some are several requests")
    p.add_argument("--share", type=float, default=0.04, help="the share of a provider's answers that have a fault")
    p.add_argument("--flaps", type=int, default=503, help="what the flapping endpoint answers while it is down")
    p.add_argument("--quiet", type=int, default=120, help="seconds without a call at the end")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--work", type=Path, default=Path("/tmp/forebay-soak"))
    p.add_argument("--out", type=Path, help="write the report there too")
    args = p.parse_args()
    args.forebay, args.work = args.forebay.resolve(), args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    os.nice(5)
    began = datetime.datetime.now(datetime.timezone.utc)
    providers = setting.Providers(args.forebay, args.work, args.seed, args.share, args.flaps)
    project = None
    try:
        port = setting.free_port()
        project = setting.Project(args.forebay, args.work / "project", providers, f"http://127.0.0.1:{port}/hook")
        project.hook_port = port
        load, seen = asyncio.run(soak(args, project, providers))
    finally:
        if project and hasattr(project, "process") and project.process.poll() is None:
            project.stop()
        providers.stop()
    seen["counts"] = {f"{kind}: {outcome}": n for (kind, outcome), n in sorted(load.counts.items())}
    seen["findings"], seen["found"] = load.findings, load.found
    seen["calls"], seen["most"], seen["opened"] = load.sent, load.most, load.client.opened
    seen["jobs"] = {"ended": len(load.jobs), "told": len({id for id, _ in load.told}), "messages": len(load.told), "badly signed": load.badly_told,
                    "never told": len(set(load.jobs) - {id for id, _ in load.told})}
    seen["about"] = {"minutes": args.minutes, "rate": args.rate, "share": args.share, "seed": args.seed, "flaps": args.flaps, "began": began.isoformat(timespec="seconds"),
                     "version": setting.version(args.forebay)}
    text, bad = page.write(seen)
    setting.finish(args, seen, text, bad)


if __name__ == "__main__":
    main()
