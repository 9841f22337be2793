#!/usr/bin/env bash
# Runs every fuzz target, or those named: FUZZ_SECONDS each (60). New inputs go to fuzz/corpus, crashes to
# fuzz/artifacts. Prints one line a target; exit code 1 when any input broke one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${FUZZ_SECONDS:-60}
export RUSTUP_TOOLCHAIN=${FUZZ_TOOLCHAIN:-nightly}
export CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-${CARGO_TARGET_DIR:-$PWD/target}/fuzz}

if ! rustc --version >/dev/null 2>&1; then
  echo "SKIPPED: fuzzing needs a nightly toolchain: rustup toolchain install nightly" >&2
  exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "SKIPPED: fuzzing needs cargo-fuzz: cargo +nightly install cargo-fuzz --locked" >&2
  exit 0
fi

# No address sanitizer: the code under test has no unsafe, and without it the targets run several times as fast.
build=(cargo fuzz build --sanitizer none --codegen-units 16)
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  mapfile -t targets < <(cargo fuzz list)
  "${build[@]}"
else
  for target in "${targets[@]}"; do "${build[@]}" "$target"; done
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target"
  options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1)
  [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
  verdict=clean
  cargo fuzz run --sanitizer none --codegen-units 16 "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    "${options[@]}" >"$log" 2>&1 || { verdict=BROKEN; status=1; }
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  last=$(grep -E '^#[0-9]+.* cov: ' "$log" | tail -1)
  coverage=$(sed -E 's/.* cov: ([0-9]+) .*/\1/' <<<"$last")
  peak=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
  printf '%-17s %-6s %10s runs  %6s edges  %5s MB\n' "$target" "$verdict" "${runs:-?}" "${coverage:-?}" "${peak:-?}"
  [ "$verdict" = clean ] || tail -40 "$log"
done
exit "$status"
