"""The data and the thirty expectations, once for all who are measured.

Every check has rows that break it, planted where `row % step == rest`, so that what each tool finds can be compared with what is there.
A planted row breaks one check only, as far as the checks allow.
"""

ROWS = 10_000_000
CHUNK = 500_000

CURRENCIES = ["EUR", "USD", "GBP", "JPY", "CHF"]
COUNTRIES = ["AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "GB", "IE", "IT", "JP", "NL", "NO", "PT", "SE", "US"]
STATUSES = ["new", "paid", "packed", "shipped", "returned"]
CHANNELS = ["web", "app", "shop", "phone"]
WAREHOUSES = ["north", "south", "east", "west", "central", "harbour"]

# (name, kind, what it needs). A null passes every kind but not_null.
CHECKS = [
    ("status there", "not_null", {"column": "status"}),
    ("currency there", "not_null", {"column": "currency"}),
    ("customer there", "not_null", {"column": "customer"}),
    ("product there", "not_null", {"column": "product"}),
    ("quantity there", "not_null", {"column": "quantity"}),
    ("price there", "not_null", {"column": "price"}),
    ("email there", "not_null", {"column": "email"}),
    ("created there", "not_null", {"column": "created"}),
    ("postcode there", "not_null", {"column": "postcode"}),
    ("customer in range", "range", {"column": "customer", "min": 1, "max": 2_000_000}),
    ("product in range", "range", {"column": "product", "min": 1, "max": 100_000}),
    ("quantity in range", "range", {"column": "quantity", "min": 1, "max": 50}),
    ("price in range", "range", {"column": "price", "min": 0.0, "max": 1000.0}),
    ("discount in range", "range", {"column": "discount", "min": 0.0, "max": 0.5}),
    ("weight in range", "range", {"column": "weight", "min": 0.0, "max": 80.0}),
    ("rating in range", "range", {"column": "rating", "min": 1, "max": 5}),
    ("currency known", "set", {"column": "currency", "values": CURRENCIES}),
    ("country known", "set", {"column": "country", "values": COUNTRIES}),
    ("status known", "set", {"column": "status", "values": STATUSES}),
    ("channel known", "set", {"column": "channel", "values": CHANNELS}),
    ("warehouse known", "set", {"column": "warehouse", "values": WAREHOUSES}),
    ("email looks right", "pattern", {"column": "email", "regex": r"^[a-z0-9.]+@[a-z0-9-]+\.[a-z]{2,}$"}),
    ("sku looks right", "pattern", {"column": "sku", "regex": r"^[A-Z]{3}-[0-9]{5}$"}),
    ("order_ref looks right", "pattern", {"column": "order_ref", "regex": r"^ORD-[0-9]{9}$"}),
    ("order_ref has 13", "length", {"column": "order_ref", "min": 13, "max": 13}),
    ("postcode has 4 to 8", "length", {"column": "postcode", "min": 4, "max": 8}),
    ("id unique", "unique", {"column": "id"}),
    ("order_ref unique", "unique", {"column": "order_ref"}),
    ("shipped after created", "pair", {"upper": "shipped", "lower": "created"}),
    ("price above cost", "pair", {"upper": "price", "lower": "cost"}),
]


def expectations():
    """Forebay's file of them."""

    def one(name, kind, what):
        if kind == "unique":
            what = {"columns": [what["column"]]}
        if kind == "pair":
            kind, what = "sql", {"condition": f"{what['upper']} >= {what['lower']}"}
        return {"name": name, kind: what}

    return {"expectations": [one(*check) for check in CHECKS]}


def planted(name):
    """The rows that break a check: those of this step and rest."""
    at = [check[0] for check in CHECKS].index(name)
    return 100_003, 1_000 + 17 * at


def expected(rows):
    """How many rows of `rows` break each check."""
    found = {}
    for name, kind, _ in CHECKS:
        step, rest = planted(name)
        n = max(0, (rows - rest + step - 1) // step)
        # A copy is made of the row before: both are the same then.
        found[name] = 2 * n if kind == "unique" else n
    # The order_ref that is too long or of another form breaks two checks at once.
    form = found["order_ref looks right"] + found["order_ref has 13"]
    found["order_ref looks right"], found["order_ref has 13"] = form, found["order_ref has 13"]
    return found
