"""The sixteen scenarios, what their callers must see and what the upstreams' logs must show, and the judge.

A judgement is a list of reasons; none is a pass. A reason of the kind `caller` says what was wrong with what the caller
saw, one of the kind `upstream` what went on behind. The sentences here are those of the report.
"""

from dataclasses import dataclass

import upstream

CALLER_DEADLINE = 30.0  # seconds: a caller gives up
FIRST_DEADLINE = 15.0  # where the fault is silence before the first token: 10 s of a first-token limit, and room to answer
RETRY_AFTER = 2.0
FLAPPING_REQUESTS, FLAPPING_EVERY = 20, 3.1  # over 60 s; 15 of them fall into a time in which the primary is down
FLAPPING_FAILED = 12
LEAVES_AFTER, LEAVER_WATCHED = 3.0, 12.0
# Real seconds in which what is under way at an upstream must end: when the caller has its answer, and when it left.
SETTLE, LEFT = 2.0, 1.0
WATCHED = SETTLE + 1.0

EVERY = [
    f"The caller waits {CALLER_DEADLINE:.0f} s, and sees one of three things, else the scenario has failed: one whole answer, word for word that of one "
    "upstream, with its finish reason; an error, which is a status of at least 400 and a message; or, once text was shown, a "
    "beginning of one answer and an explicit error event. A connection that breaks without a word, a stream that ends without a finish "
    "reason and an error, and an event that is no JSON are none of these. A truncated answer with a finish reason, or words of two answers, least of all.",
    "An answer that goes on at the fallback counts as whole when the fallback accepted the beginning as assistant prefill.",
    "Once the caller has its answer or has left, no upstream is asked any more, and what is under way there ends within two seconds.",
    "No more than 3 attempts at the primary and 2 at the fallback, unless said otherwise.",
]


@dataclass(frozen=True)
class Scenario:
    code: str
    fault: str
    must: str  # the oracle in a sentence
    streaming: tuple = ("whole",)
    whole: tuple = ("whole",)
    primary_most: int = 3
    fallback_most: int = 2
    deadline: float = CALLER_DEADLINE
    leaves: bool = False

    def allowed(self, streaming):
        return self.streaming if streaming else self.whole


HEALTHY = Scenario("S00", "none", "One whole answer.", fallback_most=0)
LEAVER = (
    f" Another caller leaves after {LEAVES_AFTER:.0f} s of it: the upstream sees that within a second, and nobody is asked afterwards."
)
CUT = ("whole", "partial")
ALL = [
    Scenario(
        "S01",
        "429 with Retry-After 2 s, once",
        "One whole answer; the primary is not asked again before its Retry-After is over.",
    ),
    Scenario("S02", "429 for good", "One whole answer, by the fallback."),
    Scenario("S03", "500 once", "One whole answer."),
    Scenario("S04", "503 for good", "One whole answer, by the fallback."),
    Scenario("S05", "TCP reset, always", "One whole answer, by the fallback."),
    Scenario(
        "S06",
        "silence for 120 s",
        f"One whole answer within {FIRST_DEADLINE:.0f} s, by the fallback, and the silent request ends." + LEAVER,
        deadline=FIRST_DEADLINE,
        leaves=True,
    ),
    Scenario(
        "S07",
        "first token after 20 s",
        f"One whole answer within {FIRST_DEADLINE:.0f} s, by the fallback.",
        deadline=FIRST_DEADLINE,
    ),
    Scenario(
        "S08",
        "cut at token 40 of 60",
        "Streaming: the text so far and an error event, or the rest of the answer; never a clean end. Not streaming: one whole answer, as "
        "nothing was shown yet.",
        streaming=CUT,
    ),
    Scenario(
        "S09",
        "stall of 30 s after token 20",
        f"Streaming: the text so far and an error event, or one whole answer, within {CALLER_DEADLINE:.0f} s. Not streaming: one whole answer." + LEAVER,
        streaming=CUT,
        leaves=True,
    ),
    Scenario(
        "S10",
        "one malformed chunk (not streaming: a body cut within its JSON)",
        "All the text, or a clear error; never a word lost without one, and never the malformed chunk itself.",
        streaming=("whole", "partial", "error"),
        whole=("whole", "error"),
    ),
    Scenario(
        "S11",
        "no [DONE] (Anthropic: no message_stop) after the finish reason",
        "One whole answer by the primary, complete, without waiting and without asking again.",
        primary_most=1,
        fallback_most=0,
    ),
    Scenario(
        "S12",
        "context_length_exceeded",
        "One whole answer by the fallback, whose window is larger; the primary is asked once at most.",
        primary_most=1,
    ),
    Scenario(
        "S13",
        "content filter (400)",
        "A clear error with a status of 400 to 499 that names the filter or policy; the primary is asked once, the fallback never.",
        streaming=("error",),
        whole=("error",),
        primary_most=1,
        fallback_most=0,
    ),
    Scenario(
        "S14",
        "cut at token 40 of 60; the fallback refuses assistant prefill",
        "As S08: the refusal is not shown as an answer, and nothing is shown twice.",
        streaming=CUT,
    ),
    Scenario(
        "S15",
        "flapping for 60 s (4 s down, 2 s up) under 20 requests",
        f"All 20 get one whole answer, and no more than {FLAPPING_FAILED} attempts fail at the flapping endpoint: one for each request would be 15, "
        "and with a retry 30; a breaker stops asking.",
        primary_most=99,  # the failed ones count
        fallback_most=22,
    ),
    Scenario(
        "S16",
        "billed for 20 tokens, then cut (not streaming: a 500)",
        "As S08, and the account is right: the usage told to the caller is that of the answer it got. Forebay's ledger must hold each attempt "
        "once, under its own model, with the tokens that its upstream sent (peers: without their databases there is no ledger to look at).",
        streaming=CUT,
    ),
]
BY_CODE = {s.code: s for s in [HEALTHY, *ALL]}


@dataclass
class Probe:
    """One request, and what the two upstreams logged from its beginning until some time after its end."""

    seen: object
    logs: dict  # "primary" and "fallback": requests that arrived since its beginning
    marks: dict  # now_us of each when the caller was done


def words(text):
    return len(text.split())


def began(text):
    """The answer that a text is a beginning of."""
    text = text.strip()
    return next((a for a in (upstream.PRIMARY, upstream.FALLBACK) if a.startswith(text)), None)


def continued(text, fallback_log):
    """A text that the fallback took up: it accepted as prefill exactly what had been shown before its own words."""
    for request in fallback_log:
        messages = (request.get("body") or {}).get("messages") or [{}]
        last = messages[-1]
        if last.get("role") != "assistant" or request.get("status") != 200:
            continue
        content = last.get("content")
        prefix = content if isinstance(content, str) else "".join(b.get("text", "") for b in content or [])
        if prefix.strip() and text.startswith(prefix.rstrip()):
            return upstream.FALLBACK.startswith(text[len(prefix.rstrip()) :].strip())
    return False


def shape(seen, fallback_log=()):
    """What the caller saw: its kind, and words for it."""
    text, n = seen.text.strip(), words(seen.text)
    after = f"after {n} words" if n else "before any text"
    if seen.ended == "late":
        return "late", f"no end within the caller's deadline ({n} words shown)"
    if seen.garbage is not None:
        return "garbage", f"something that is no JSON came through {after}, at which an SDK breaks"
    if seen.status is None or (seen.ended == "broken" and seen.status != 200):
        return "broken", "the connection broke before any answer"
    if seen.ended == "broken" and not seen.text and seen.error is None:
        return "broken", "the connection broke in the middle of the body"
    if seen.status != 200:
        if seen.status >= 400 and seen.error:
            return "error", f"error {seen.status} “{seen.error[:90]}”"
        return "unclear", f"status {seen.status} without a message"
    if seen.body_error:
        return "unclear", "an error with status 200"
    known = began(text) is not None or continued(text, fallback_log)
    if not known:
        return "mixed", f"{n} words that are of no single answer (…{' '.join(text.split()[-3:])})"
    if seen.error is not None:
        return ("partial" if n else "error"), f"an error event {after}: “{seen.error[:90]}”"
    if seen.ended == "broken":
        return "broken", f"the connection broke {after}, without an error event"
    if seen.finish is None:
        end = " with [DONE]" if seen.done else ""
        return "silent", f"the stream ended{end} {after}, without a finish reason and without an error"
    if seen.finish not in ("stop", "end_turn"):
        return "odd", f"finish reason {seen.finish} {after}"
    if text in (upstream.PRIMARY, upstream.FALLBACK):
        return "whole", "the primary's answer" if text == upstream.PRIMARY else "the fallback's answer"
    if text.endswith(upstream.FALLBACK.split()[-1]):
        return "whole", "an answer continued by the fallback"
    return "lie", f"{n} of 60 words, marked complete (finish reason {seen.finish})"


def behind(probe, settle=SETTLE):
    """What went on at the upstreams after the caller was done."""
    reasons = []
    for name, log in probe.logs.items():
        mark = probe.marks[name]
        late = [r for r in log if r["arrived_us"] > mark + 100_000]
        if late:
            last = (late[-1]["arrived_us"] - mark) / 1e6
            reasons.append(f"the {name} was asked {len(late)} more times after the caller was done, last after {last:.1f} s")
        longest = 0.0
        for r in log:
            if r["arrived_us"] <= mark + 100_000:
                end = r["end"]["at_us"] if r["end"] else None
                longest = max(longest, float("inf") if end is None else (end - mark) / 1e6)
        if longest == float("inf"):
            reasons.append(f"a request to the {name} went on when the caller was gone, as long as was watched")
        elif longest > settle:
            reasons.append(f"a request to the {name} went on for {longest:.1f} s when the caller was gone")
    return reasons


def judge(scenario, streaming, scale, probes, leaver, account):
    """All reasons why it failed, each `(kind, words)`, and what was seen, in words."""
    reasons, kinds = [], []
    for probe in probes:
        kind, text = shape(probe.seen, probe.logs["fallback"])
        kinds.append((kind, text))
        if kind not in scenario.allowed(streaming):
            reasons.append(("caller", expected(kind, text)))
        elif probe.seen.seconds > scenario.deadline / scale + slack(scale):
            reasons.append(("caller", f"it took {probe.seen.seconds * scale:.0f} s"))
    if len(probes) > 1 and reasons:
        reasons = [("caller", f"{len(reasons)} of {len(probes)} requests: {reasons[0][1]}")]
    logs = {name: [r for p in probes[:1] for r in p.logs[name]] for name in ("primary", "fallback")}
    for name, most in (("primary", scenario.primary_most), ("fallback", scenario.fallback_most)):
        if len(logs[name]) > most:
            reasons.append(("upstream", f"attempts at the {name}: {len(logs[name])}"))
    reasons += [("upstream", r) for p in probes[-1:] for r in behind(p)]
    if leaver is not None and leaver.seen.ended == "left":
        reasons += [("upstream", f"a caller left: {r}") for r in behind(leaver, LEFT)]
    kind = "caller" if scenario.code in ("S13", "S16") else "upstream"
    reasons += [(kind, r) for r in special(scenario, scale, probes, logs)]
    reasons += [("upstream", r) for r in account]
    return reasons, kinds[0][1] if len(kinds) == 1 else summary(kinds), logs


def expected(kind, text):
    if kind == "error":
        return f"{text}, where the fallback could answer"
    if kind == "whole":
        return f"{text}, where an error was due"
    return text


def slack(scale):
    """Room for processes to run when time is scaled down."""
    return 0.0 if scale == 1 else 0.5


def summary(kinds):
    counts = {}
    for _, text in kinds:
        counts[text] = counts.get(text, 0) + 1
    return ", ".join(f"{n} × {text}" for text, n in counts.items())


def special(scenario, scale, probes, logs):
    """What only one scenario asks of the logs."""
    seen, primary = probes[0].seen, logs["primary"]
    if scenario.code == "S01" and len(primary) > 1:
        waited = (primary[1]["arrived_us"] - (primary[0]["end"] or {"at_us": primary[0]["arrived_us"]})["at_us"]) / 1e6
        if waited < 0.95 * RETRY_AFTER / scale:
            return [f"the primary was asked again after {waited * scale:.1f} s, not after its Retry-After of {RETRY_AFTER:.0f} s"]
    if scenario.code == "S13" and seen.error is not None and seen.status != 200:
        if not 400 <= seen.status < 500:
            return [f"the refusal became status {seen.status}"]
        if not any(w in seen.raw.lower() for w in ("content", "filter", "policy")):
            return ["the error does not name the filter"]
    if scenario.code == "S15":
        failed = sum(r["status"] == 503 for r in primary)
        if failed > FLAPPING_FAILED:
            return [f"{failed} attempts failed at the flapping endpoint, of {len(primary)}"]
    if scenario.code == "S16" and shape(seen)[0] == "whole" and seen.usage is not None:
        told = seen.usage.get("completion_tokens", seen.usage.get("output_tokens"))
        due = {upstream.TOKENS, words(seen.text)}  # more when the fallback went on
        if told not in due:
            return [f"the caller was told of {told} output tokens, not of {' or '.join(map(str, sorted(due)))}"]
    return []
