"""Sends a document to a pipeline and prints its events as they come. Standard library only."""

import json
import sys
import time
import urllib.request


def main(url, path):
    media = {"html": "text/html", "htm": "text/html", "md": "text/markdown", "pdf": "application/pdf"}
    kind = media.get(path.rsplit(".", 1)[-1].lower(), "text/plain")
    with open(path, "rb") as f:
        body = f.read()
    headers = {"Content-Type": kind, "Accept": "text/event-stream"}
    start = time.monotonic()
    failed = False
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers)) as answer:
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            failed |= show(event, f"{time.monotonic() - start:7.2f} s")
    return 1 if failed else 0


def show(event, at):
    kind = event["type"]
    if kind == "accepted":
        print(f"request {event['id']}")
    elif kind == "stage":
        budget = f" of {event['budget_ms']} ms" if event.get("budget_ms") else ""
        print(f"[{at}] stage {event['name']}: {event['state']} ({event['elapsed_ms']} ms{budget})")
    elif kind == "draft":
        print(f"[{at}] draft: {event['text']}\n")
    elif kind == "part":
        print(f"[{at}] part {event['index'] + 1} of {event['of']}: {'failed: ' + event['error'] if event.get('error') else 'done'}")
    elif kind == "delta":
        print(event["text"], end="")
    elif kind == "error":
        print(f"\n[{at}] {event['code']}: {event['message']}")
        return not event["partial"]
    elif kind == "done":
        usage = event["usage"]
        print(f"\n\n[{at}] {usage['input_tokens']} tokens in, {usage['output_tokens']} out, ${event['cost_nanousd'] / 1e9:.6f}")
        for name in ("coverage", "grounding"):
            if name in event:
                print(f"{name}: {json.dumps(event[name])}")
    sys.stdout.flush()
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
