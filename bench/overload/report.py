"""The figures as they are printed and written."""

import math


def percentile(values, share):
    """The nearest rank, as `forebay bench` has it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0


def p99(all_, what):
    return round((all_[what] or {"p99": 0})["p99"] / 1000)


def say_returns(got):
    second = got["second"]
    ok = sum(1 for s in second if s[2])
    print(
        f"returns{' (all ask the same)' if got['same'] else ''}: {got['offered']} came, {got['refused']} refused ({got['without']} without Retry-After), "
        f"{ok} of {len(second)} answered when they came again; told {percentile(got['waits'], 0.5):.1f} s (median), {max(got['waits'], default=0):.0f} s at most",
        flush=True,
    )


def steps_table(rows):
    out = "| load | offered /s | goodput /s | total p50, p99 | first p99 | refused | a refusal takes (p99) | with Retry-After | RSS max | slope |\n|---|---|---|---|---|---|---|---|---|---|\n"
    for r in rows:
        counts = r["counts"]
        shed = r["shed_us"]["p99"] / 1000 if r["shed_us"] else 0
        out += (
            f"| {r['factor']:g}x | {r['offered']:.0f} | {r['goodput']:.1f} | {r['total_us']['p50'] / 1000:.0f}, {r['total_us']['p99'] / 1000:.0f} ms | {p99(r, 'first_us')} ms | {counts['sheds']} "
            f"| {shed:.1f} ms | {counts['sheds_with_retry_after']} | {r['rss_max']:.0f} MB | {r['rss_slope']:+.1f} MB/min |\n"
        )
    return out


def verdict(name, holds, what):
    return (f"- {'holds' if holds else '**does not hold**'}: {name}: {what}\n", not holds)


def judge_steps(rows):
    by = {r["factor"]: r for r in rows}
    out = []
    if 10 in by:
        peak = max(r["goodput"] for r in rows)
        share = by[10]["goodput"] / peak
        out.append(verdict("goodput at 10x", share >= 0.95, f"{by[10]['goodput']:.1f} of {peak:.1f} a second, {share:.1%} of the peak"))
        counts = by[10]["counts"]
        out.append(verdict("Retry-After at 10x", counts["sheds"] == counts["sheds_with_retry_after"], f"{counts['sheds_with_retry_after']} of {counts['sheds']} refusals carry one"))
        bad = {k: v for k, v in counts.items() if k in ("partial", "errors", "timeouts", "broken", "unfinished") and v}
        out.append(verdict("nothing but answers and refusals at 10x", not bad, f"{bad or 'none'}"))
        out.append(verdict("memory at 10x", by[10]["rss_slope"] < 6, f"{by[10]['rss_slope']:+.1f} MB a minute, {by[10]['rss_max']:.0f} MB at most"))
    if 10 in by and 0.9 in by:
        a, b = by[0.9]["total_us"]["p99"], by[10]["total_us"]["p99"]
        out.append(verdict("p99 of what is let in at 10x", b <= 1.5 * a, f"{b / 1000:.0f} ms, {b / a:.2f} times the {a / 1000:.0f} ms at 0.9x"))
    return out


def judge_returns(got):
    out = []
    for precise in (True, False):
        second = [s for s in got["second"] if s[0] == precise]
        ok = sum(1 for s in second if s[2])
        share = ok / max(1, len(second))
        name = "`retry-after-ms`" if precise else "`Retry-After` (whole seconds)"
        out.append(verdict(f"who came again by {name}", share >= 0.9, f"{ok} of {len(second)} answered, {share:.1%}"))
    return out


def isolation_table(rows):
    out = "| round | b | first p50, p99 | total p50, p99 | b refused | a: answers by status |\n|---|---|---|---|---|---|\n"
    for r in rows:
        storm = ", ".join(f"{k}: {v}" for k, v in sorted(r["storm"].items()))
        out += (
            f"| {r['round'] + 1} | {'beside a' if r['beside'] else 'alone'} | {r['first_us']['p50'] / 1000:.0f}, {r['first_us']['p99'] / 1000:.0f} ms "
            f"| {r['total_us']['p50'] / 1000:.0f}, {r['total_us']['p99'] / 1000:.0f} ms | {r['counts']['sheds']} | {storm} |\n"
        )
    return out


def judge_isolation(what, rows):
    out = []
    for field, name in (("total_us", "p99 to the end"), ("first_us", "p99 to the first token (streams)")):
        alone, beside = ([r[field]["p99"] for r in rows if r["beside"] == b] for b in (False, True))
        a, b = sorted(alone)[len(alone) // 2], sorted(beside)[len(beside) // 2]
        out.append(verdict(f"{what}, b's {name}", b <= 1.1 * a, f"{b / 1000:.0f} ms beside a, {a / 1000:.0f} ms alone ({b / a - 1:+.1%}, medians of {len(alone)} rounds)"))
    lost = sum(r["sent"] - r["counts"]["complete"] for r in rows if r["beside"])
    out.append(verdict(f"{what}, b's requests", lost == 0, f"{lost} of {sum(r['sent'] for r in rows if r['beside'])} not answered"))
    return out


def render(got):
    text, failed = "# Overload and isolation\n\n", False

    def judged(all_):
        nonlocal text, failed
        for line, bad in all_:
            text += line
            failed |= bad
        text += "\n"

    text += (
        f"`{got['command']}`, forebay {got['version']}. The upstream has 16 places that an answer holds for 350 ms on average (250 to 450): it bears {got['capacity']:.1f} answers a second and "
        "says 429 to more than 16 at once. Poisson arrivals, half of them streams; goodput is whole answers within 2 s, as a second has them.\n\n"
    )
    for name, title in (("steps", "## A load of up to ten times the capacity (`max_concurrency: 16`)"), ("adaptive", "## The same where nobody says what the upstream bears: the limit is found")):
        if name in got:
            text += f"{title}\n\n{steps_table(got[name])}\n"
            judged(judge_steps(got[name]))
    for r in got.get("returns", []):
        second = r["second"]
        ok = sum(1 for s in second if s[2])
        title = "all ask the same" if r["same"] else "all ask something else"
        text += (
            f"## Who is refused comes again when it was told ({title})\n\n{r['offered']} callers at ten times the capacity; {len(r['at_once'])} were answered at once, {r['refused']} refused, {r['failed']} failed. "
            f"They were told {percentile(r['waits'], 0.5):.1f} s (median; 99th percentile {percentile(r['waits'], 0.99):.0f} s), came once more then, and {ok} of {len(second)} were answered, "
            f"in {percentile([s[4] for s in second if s[2]], 0.99) * 1000:.0f} ms (99th percentile; at once: {percentile(r['at_once'], 0.99) * 1000:.0f} ms). "
            f"A refusal took {percentile(r['refusal_seconds'], 0.5) * 1000:.1f} ms (median). Memory: {r['rss_first']:.0f} MB before, {r['rss_max']:.0f} MB at most, {r['rss_slope']:+.1f} MB a minute.\n\n"
        )
        judged(judge_returns(r))
    titles = {"storm": "at the same model", "outage": "at a model whose endpoint is gone", "silence": "at a model that is silent"}
    for what, rows in got.get("isolation", {}).items():
        text += f"## Tenant a retries each failure at once, 50 ways, {titles[what]}; tenant b goes on at a quarter of the capacity\n\n{isolation_table(rows)}\n"
        judged(judge_isolation(what, rows))
    return text, failed
