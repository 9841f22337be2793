#!/usr/bin/env bash
# Fuzzes every parser, guided by coverage, and prints a row of a Markdown table for each; exit code 1 when an input broke
# one. Targets: the arguments, or FUZZ_TARGETS, or all. FUZZ_SECONDS each (60), FUZZ_JOBS at a time (2), inputs of at most
# FUZZ_MAX_LEN bytes (16384). New inputs go to fuzz/corpus, those that break something to fuzz/artifacts.
# Needs a nightly toolchain and says so when there is none; cargo-fuzz is installed under FUZZ_TOOLS, outside the clone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${FUZZ_SECONDS:-60}
jobs=${FUZZ_JOBS:-2}
max_len=${FUZZ_MAX_LEN:-16384}
tools=${FUZZ_TOOLS:-$HOME/.cache/forebay/fuzz-tools}
cargo_fuzz=0.13.2
export RUSTUP_TOOLCHAIN=${FUZZ_TOOLCHAIN:-nightly}
# Looking whether the toolchain is here must not install it.
export RUSTUP_AUTO_INSTALL=0

skip() {
  echo "SKIPPED: no parser was fuzzed: $1" >&2
  exit 0
}

[[ $(rustc --version 2>/dev/null) == *nightly* ]] ||
  skip "it needs a nightly toolchain: rustup toolchain install nightly --profile minimal"
export PATH="$tools/bin:$PATH"
if [[ $(cargo fuzz --version 2>/dev/null) != "cargo-fuzz $cargo_fuzz" ]]; then
  echo "installing cargo-fuzz $cargo_fuzz to $tools" >&2
  CARGO_TARGET_DIR="$tools/target" cargo install --quiet --locked --root "$tools" "cargo-fuzz@$cargo_fuzz" ||
    skip "cargo-fuzz $cargo_fuzz could not be installed"
  rm -rf "$tools/target"
fi

CARGO_TARGET_DIR=${FUZZ_TARGET_DIR:-${CARGO_TARGET_DIR:-$PWD/target}/fuzz}
export CARGO_TARGET_DIR
host=$(rustc -vV | sed -n 's/^host: //p')
mapfile -t known < <(cargo fuzz list)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || read -ra targets <<<"${FUZZ_TARGETS:-}"
[ ${#targets[@]} -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
  [[ " ${known[*]} " == *" $target "* ]] || { echo "there is no target $target, only ${known[*]}" >&2; exit 2; }
done

# No address sanitizer: the code under test has no unsafe, and without it the targets run several times as fast.
build=(cargo fuzz build --sanitizer none --codegen-units 16 --target "$host")
if [ ${#targets[@]} -eq ${#known[@]} ]; then
  "${build[@]}"
else
  for target in "${targets[@]}"; do "${build[@]}" "$target"; done
fi

logs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT

# One target, from its corpus and its seeds: a row, and the end of the log when an input broke it.
fuzz() {
  local target=$1 log="$logs/$1" result=clean last
  local folders=("fuzz/corpus/$target" "fuzz/seeds/$target") artifacts="fuzz/artifacts/$target/"
  mkdir -p "${folders[@]}" "$artifacts"
  local options=(-max_total_time="$seconds" -max_len="$max_len" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1)
  [ ! -f "fuzz/dictionaries/$target.dict" ] || options+=(-dict="fuzz/dictionaries/$target.dict")
  "$CARGO_TARGET_DIR/$host/release/$target" "${options[@]}" -artifact_prefix="$artifacts" "${folders[@]}" \
    >"$log" 2>&1 || result=BROKEN
  last=$(grep -E '^#[0-9]+.* cov: ' "$log" | tail -1 || true)
  figure() { sed -nE "s|^$1|\1|p" "$log" | tail -1; }
  printf '| %s | %s | %s | %s | %s | %s | %s |\n' "$target" "$result" \
    "$(figure 'stat::number_of_executed_units: *([0-9]+)')" "$(figure 'stat::average_exec_per_sec: *([0-9]+)')" \
    "$(sed -nE 's|.* cov: ([0-9]+) .*|\1|p' <<<"$last")" "$(sed -nE 's|.* corp: ([0-9]+).*|\1|p' <<<"$last")" \
    "$(figure 'stat::peak_rss_mb: *([0-9]+)')"
  [ "$result" = clean ] || { touch "$logs/.broken"; tail -40 "$log" >&2; }
}

echo "| target | result | runs | runs/s | edges | inputs kept | peak MB |"
echo "|---|---|---:|---:|---:|---:|---:|"
for target in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  fuzz "$target" &
done
wait
[ ! -e "$logs/.broken" ]
