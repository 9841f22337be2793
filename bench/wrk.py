"""What wrk says of a server, as figures: for the benches that ask by it."""

import re
import subprocess


def milliseconds(text):
    n, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(n) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def wrk(url, script, seconds, connections):
    """Requests in all, a second, and the latencies in ms; every answer has to be a success."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    found = lambda what: re.search(what + r"\s+(\S+)", said).group(1)
    return {
        "requests": int(re.search(r"(\d+) requests in", said).group(1)),
        "requests_per_second": float(found("Requests/sec:")),
        "p50_ms": milliseconds(found(r"\n\s+50%")),
        "p99_ms": milliseconds(found(r"\n\s+99%")),
    }
