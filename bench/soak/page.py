"""What came of a soak, as a page, and what of it is bad."""

import slopes

# What is looked at: name, title, unit of a figure, and whether its growth is a fault. The ledger's files grow by design.
SERIES = (
    ("anon", "memory of its own (RssAnon)", "MB", True), ("rss", "memory in all (RSS)", "MB", True), ("fds", "open file handles", "", True),
    ("threads", "threads", "", True), ("tasks", "tasks", "", True), ("in_flight", "requests in flight", "", True),
    ("leases", "leases", "", True), ("slots", "models' slots taken", "", True), ("reserved_tokens", "tokens reserved", "", True),
    ("replay", "kept answers", "MB", True), ("lag", "journal not yet in the database", "MB", True),
    ("series", "lines of /metrics, without histograms' buckets", "", False),
    ("db", "database", "MB", False), ("wal", "its write-ahead log", "MB", False), ("journal", "journal", "MB", False), ("log", "server's own log", "MB", False),
)
# Figures that must be 0 when nobody calls.
ZERO = ("in_flight", "leases", "reserved_tokens", "slots", "at_endpoints", "queued", "streams", "lag")


def grows(v):
    """Both slopes' ranges are above zero, and an hour makes more than a twentieth of the mean and more than one of it."""
    surely = v["slope"] - v["half"] > 0 and v["sen_low"] > 0
    return surely and v["sen"] > 0.05 * abs(v["mean"]) and v["sen"] > 1


def table(seen, warm, until):
    taken = [s for s in seen["samples"] if warm <= s["t"] <= until]
    xs, out, bad = [s["t"] / 3600 for s in taken], [], []
    out.append("| | mean | first | last | most | least squares, an hour | Theil–Sen, an hour |")
    out.append("|---|---|---|---|---|---|---|")
    for name, title, unit, fault in SERIES:
        if len(taken) < 4 or any(s.get(name) is None for s in taken):
            out.append(f"| {title} | not seen in this run | | | | | |")
            continue
        scale = 1e6 if unit == "MB" else 1
        v = slopes.verdict(xs, [s[name] / scale for s in taken])
        f = lambda x: f"{x:,.2f}" if unit == "MB" else f"{x:,.1f}"
        grown = fault and grows(v)
        if grown:
            bad.append(f"{title} grows")
        out.append(
            f"| {title}{', ' + unit if unit else ''} | {f(v['mean'])} | {f(v['first'])} | {f(v['last'])} | {f(v['max'])} | {f(v['slope'])} ± {f(v['half'])} "
            f"| {f(v['sen'])} ({f(v['sen_low'])} to {f(v['sen_high'])}){' **grows**' if grown else ''} |"
        )
    return out, bad, taken


def rates(taken):
    """What files grow by for each request of the ledger."""
    first, last = taken[0], taken[-1]
    n = max(1, last["requests"] - first["requests"])
    parts = [f"{title} {(last[name] - first[name]) / n:,.0f} bytes" for name, title, *_ in SERIES if name in ("db", "log")]
    return f"By request (of {n:,.0f}, {(last['attempts'] - first['attempts']) / n:.2f} attempts each): " + ", ".join(parts) + "."


def write(seen, until=float("inf")):
    """The page, and what is bad; of samples before `until`, in seconds."""
    about, end, sums, cpu = seen["about"], seen["end"], seen["sums"], seen["cpu"]
    warm = about["minutes"] * 60 / 4
    rows, bad, taken = table(seen, warm, until)
    total = sum(n for k, n in seen["counts"].items() if not k.endswith("WRONG"))
    if seen["found"]:
        bad.append(f"{seen['found']} answers or events were not as they must be")
    held = [name for name in ZERO if end[name]]
    bad += [f"{name} is {end[name]:g} when nobody calls" for name in held]
    counters, ledger = sums["counters"], sums["ledger"]
    # The counters' sum of dollars is one of floating-point numbers.
    differs = [k for k in ("requests", "attempts", "input", "output") if counters[k] != ledger[k]]
    if abs(counters["cost"] - ledger["cost"]) > 1000:
        differs.append("cost")
    bad += [f"{k}: the counters say {counters[k]:,.0f}, the ledger {ledger[k]:,.0f}" for k in differs]
    if ledger["admitted and not settled"]:
        bad.append(f"{ledger['admitted and not settled']} requests are admitted and not settled")
    if seen["exit"] != 0:
        bad.append(f"the server ended with {seen['exit']}")
    if seen["jobs"]["never told"] or seen["jobs"]["badly signed"] or seen["jobs"]["messages"] != seen["jobs"]["told"]:
        bad.append(f"webhooks: {seen['jobs']}")
    out = [
        "# Soak with faults at moderate load", "",
        f"    bench/soak/run.py --forebay target/release/forebay --minutes {about['minutes']:g} --rate {about['rate']:g} --share {about['share']:g} --flaps {about['flaps']} --seed {about['seed']}", "",
        f"{about['version']}, begun {about['began']}. {total:,} checked answers, {sums['ledger']['requests']:,} requests in the ledger with {ledger['attempts']:,} attempts, "
        f"at most {seen['most']} calls under way, {seen['opened']:,} connections opened. CPU of one core: server {share(cpu, 'server')}, fake providers {share(cpu, 'providers')}, "
        f"callers {share(cpu, 'callers')}.", "",
        "**" + ("Bad: " + "; ".join(bad) if bad else "Nothing grew, nothing is held at the end, every answer was whole or one allowed error, and the sums agree.") + "**", "",
        f"## Slopes, behind the first {warm / 60:.0f} minutes ({len(taken)} samples)", "", *rows, "",
        "Ranges are of 95 %, that of least squares widened for the samples' autocorrelation. Something grows when both ranges are above zero and an hour makes more than 5 % of the mean.",
        "The database, the server's log and the write-ahead log's file grow by design.", "", rates(taken) if taken else "", "",
        f"## Nobody calls, {seen['quiet'][-1]['t'] - seen['samples'][-1]['t']:.0f} s later" if seen["quiet"] else "## Nobody calls", "",
        f"Before the first call: {mb(seen['fresh']['rss'])} RSS, {seen['fresh']['fds']} handles, {seen['fresh']['threads']} threads, {seen['fresh']['tasks']} tasks. "
        f"Now: {mb(end['rss'])} RSS, {end['fds']} handles ({end['fd_sockets']} sockets), {end['threads']} threads, {end['tasks']} tasks; "
        + ", ".join(f"{name} {end[name]:g}" for name in ZERO) + ".", "",
        "## Sums", "", "| | counters (`/metrics`) | ledger |", "|---|---|---|",
        *[f"| {k} | {counters[k]:,.0f} | {ledger[k]:,.0f} |" for k in ("requests", "attempts", "input", "output", "cost")], "",
        f"Requests at the providers by their own count: {sum(sums['providers'].values()):,} ({sums['providers']}). Ledger: endings {ledger['endings']}; attempts by endpoint {ledger['attempts by endpoint']}; "
        f"admitted and not settled {ledger['admitted and not settled']}. A limit of dollars a day, lowered below what was spent, says `spend_usd` {(sums['limit']['said'] or {}).get('spend_usd')}; the ledger has {ledger['cost of gold'] / 1e9:.9f}.",
        f"Reloads {counters['reloads']}, replays {counters['replays']}, cache {counters['cache']}, retries {counters['retries']}, sheds {counters['sheds']}.",
        f"Jobs: {seen['jobs']}; in the database {ledger['jobs']}, deliveries {ledger['deliveries']}.", "",
        "## What the callers saw", "", "| | |", "|---|---|", *[f"| {k} | {n:,} |" for k, n in seen["counts"].items()], "",
    ]
    if seen["findings"]:
        out += ["## Findings", ""] + [f"- {f['kind']}: {f['what']}" for f in seen["findings"][:40]] + [""]
    return "\n".join(out), bad


def share(cpu, who):
    return f"{100 * cpu[who] / cpu['seconds']:.1f} %"


def mb(n):
    return f"{n / 1e6:.1f} MB"
