"""Writes bench/results/faults.{md,json}. Gateways that were not run keep what stands in the JSON file."""

import datetime
import json
import os
import platform
import re

import gateways
import scenarios

SHORT = {
    "openai, streaming": "OpenAI, streaming",
    "openai, not streaming": "OpenAI, not streaming",
    "anthropic, streaming": "Anthropic, streaming",
    "anthropic, not streaming": "Anthropic, not streaming",
}


def record(out, kind, version, scale, ways, command):
    file = out.with_suffix(".json")
    book = json.loads(file.read_text()) if file.exists() else {"gateways": {}}
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    book["gateways"][kind.name] = {
        "date": datetime.date.today().isoformat(),
        "version": version,
        "time_scale": scale,
        "command": command,
        "machine": f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}",
        "settings": kind.settings,
        "remarks": kind.remarks,
        "ways": ways,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")
    out.with_suffix(".md").write_text(text(book))


def text(book):
    order = [g.name for g in gateways.ALL]
    ran = sorted(book["gateways"].items(), key=lambda kv: order.index(kv[0]) if kv[0] in order else len(order))
    lines = ["# The fault wall: sixteen ways an upstream fails, and what the caller sees", ""]
    lines += [
        "Each cell is a gateway between a caller and two fake upstreams of its own: a primary with the fault, and a healthy fallback. An oracle "
        "then judges what the caller saw and what the upstreams logged. Behind the number of passes stands, in brackets, how many it would be "
        "if what the caller saw alone counted. ✓+ is a stream that was rescued: text had been shown, and the answer came whole. Lines named “plain” "
        "have the fallback configured and everything else as it comes; the others are at their best settings. Again: `bench/faults/run.py` (see its head).",
        "",
    ]
    codes = [s.code for s in scenarios.ALL]
    lines += ["| | passes | " + " | ".join(codes) + " |", "|---|---|" + "---|" * len(codes)]
    for name, g in ran:
        for way, results in g["ways"].items():
            passed = sum(r["pass"] for r in results.values())
            seen = sum(r["caller"] for r in results.values())
            cells = [mark(way, c, results.get(c)) for c in codes]
            count = f"**{passed}/{len(results)}**" + (f" ({seen})" if seen != passed else "")
            lines.append(f"| {title(name, g)}, {SHORT[way]} | {count} | " + " | ".join(cells) + " |")
    lines += ["", "## What a pass takes", ""]
    lines += [f"- {rule}" for rule in scenarios.EVERY]
    lines += ["", "| | the primary's fault | what must be seen |", "|---|---|---|"]
    lines += [f"| {s.code} | {s.fault} | {s.must} |" for s in scenarios.ALL]
    for name, g in ran:
        lines += ["", f"## {title(name, g)}", ""]
        speed = "in true time" if g["time_scale"] == 1 else f"{g['time_scale']:g} times faster than true time"
        lines += [f"{g['date']}, {speed}, {g['machine']}: `{g['command']}`", "", f"Settings: {g['settings']}", ""]
        reasons = failures(g["ways"])
        lines += reasons or ["Nothing failed."]
        if g["remarks"]:
            lines += ["", *[f"- {remark}" for remark in g["remarks"]]]
    return "\n".join(lines) + "\n"


def title(name, gateway):
    return f"{name} {gateway['version']}".strip()


def mark(way, code, result):
    if result is None:
        return "–"
    rescued = way.endswith(", streaming") and code in ("S08", "S09", "S14", "S16") and result["whole"]
    return "**✗**" if not result["pass"] else "✓+" if rescued else "✓"


def failures(ways):
    """The reasons in words; those that differ in their figures alone stand together."""
    groups = {}
    for way, results in ways.items():
        for code, r in results.items():
            if not r["pass"]:
                why = "; ".join(r["why"])
                groups.setdefault((code, re.sub(r"[\d.]+", "#", why)), (why, []))[1].append(way)
    lines = ["| | where | why it failed |", "|---|---|---|"]
    for (code, _), (why, where) in sorted(groups.items()):
        place = "everywhere" if len(where) == len(ways) and len(ways) > 1 else "; ".join(SHORT[w] for w in where)
        why = why.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {code} | {place} | {why} |")
    return lines if groups else []
