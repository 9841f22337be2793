#!/usr/bin/env bash
# Measures the live path and adds the figures to bench/results/live.md. With names (cancel worker first fair slow): only those.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${FOREBAY_FIXTURES:=$HOME/.cache/forebay/fixtures}"
export FOREBAY_FIXTURES
target="${CARGO_TARGET_DIR:-target}/release"
if [ -z "${FOREBAY_BUILT:-}" ]; then
  cargo build --locked --release -p forebay -p forebay-llama -p forebay-bench-live
fi
# Two sockets for each of 2,000 streams, on either side.
ulimit -n 16384 || echo "the limit of open files stays at $(ulimit -n): 2,000 streams may not fit" >&2
out=bench/results/live.md
mkdir -p bench/results
{
  printf '\n## %s\n\n' "$(date -u +%F)"
  printf '`bench/live/run.sh %s` at %s%s\n' "$*" "$(git rev-parse --short HEAD)" "$(git diff --quiet HEAD || echo ' with changes')"
  printf '%s cores, %s; load at the start %s\n' "$(getconf _NPROCESSORS_ONLN)" "$(uname -srm)" "$(uptime | sed 's/.*average[s]*: //')"
  "$target/bench-live" --forebay "$target/forebay" "$@"
} | tee /dev/stderr >> "$out"
