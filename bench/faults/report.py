"""Writes the result. Gateways that were not run keep what stands in the JSON file beside it."""


def record(out, kind, version, scale, ways):
    pass
