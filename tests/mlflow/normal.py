"""Answers without what differs from run to run: ids by the order in which they come, no times, lists in one order."""

import re

TIMES = {
    "creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp", "creation_timestamp_ms",
    "last_updated_timestamp_ms", "end_time_now",
}
# What a server says beside the code and the message, and no client reads.
BESIDE = {"sqlstate", "error_class", "workspace"}


class Normal:
    """The names given in one check."""

    def __init__(self, url):
        self.url = url
        self.names = {}

    def name(self, kind, value):
        count = sum(1 for k, _ in self.names if k == kind)
        return self.names.setdefault((kind, value), f"<{kind}{count + 1}>")

    def text(self, text):
        text = text.replace(self.url, "<url>")
        text = re.sub(r"\s+Error: .*", " Error: …", text, flags=re.S)
        text = re.sub(r"(already exists\.) Error: …", r"\1", text)
        text = re.sub(r"\b(?!0{8})[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", lambda m: self.name("webhook", m[0]), text)
        text = re.sub(r"m-[0-9a-f]{32}", lambda m: self.name("model", m[0]), text)
        text = re.sub(r"\b[0-9a-f]{32}\b", lambda m: self.name("run", m[0]), text)
        text = re.sub(r"(mlflow-artifacts:/)(\d+)", lambda m: m[1] + self.name("experiment", m[2]), text)
        text = re.sub(r"((?:experiment|experiment with id|Experiment with id=)\s?)(\d+)\b",
                      lambda m: m[1] + self.name("experiment", m[2]), text)
        text = re.sub(r"^[a-z]+-[a-z]+-\d+$", "<name>", text)
        # A set has no order.
        return re.sub(r"\{('[^{}]*')\}", lambda m: "{" + ", ".join(sorted(m[1].split(", "))) + "}", text)

    def of(self, value, key=None):
        if key in TIMES and value is not None:
            return "<time>"
        if key in ("experiment_id", "experiment_ids") and isinstance(value, (str, int)) and str(value) not in ("0",):
            return self.name("experiment", str(value))
        if isinstance(value, dict):
            return {k: self.of(v, k) for k, v in sorted(value.items()) if k not in BESIDE}
        if isinstance(value, (list, tuple)):
            items = [self.of(v, key) for v in value]
            if items and all(isinstance(i, dict) and "key" in i for i in items):
                items.sort(key=lambda i: (str(i["key"]), str(i.get("timestamp")), str(i.get("step")), str(i.get("value"))))
            return items
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, float) and value != value:
            return "NaN"
        return value
