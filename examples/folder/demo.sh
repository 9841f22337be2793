#!/usr/bin/env bash
# A folder of documents becomes a dataset of summaries; then one document is edited, and one summary is made again.
# Usage: demo.sh [FOLDER]. Needs the binary (make build). Without WRITER_URL a rehearsal upstream answers in place of a model.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
bin=${FOREBAY_BIN:-$target/release}
project=${FOREBAY_DEMO_FOLDER:-$HOME/.cache/forebay/demo-folder}
documents=${1:-$here/documents}

[ -e "$bin/forebay" ] || { echo "error: $bin/forebay is missing"; echo "  help: run \`make build\`"; exit 1; }

mkdir -p "$project"
cp -r "$here/forebay.yaml" "$here/prompts" "$project/"
rm -rf "$project/documents"
cp -r "$documents" "$project/documents"
cd "$project"

if [ -z "${WRITER_URL:-}" ]; then
  "$bin/forebay" fake-upstream > fake.log 2>&1 &
  fake=$!
  trap 'kill "$fake" 2>/dev/null || true' EXIT
  until (exec 3<> /dev/tcp/127.0.0.1/9009) 2>/dev/null; do
    kill -0 "$fake" || { cat fake.log; exit 1; }
    read -rt 0.1 <> <(:) || true
  done
fi

"$bin/forebay" check
"$bin/forebay" run folder
"$bin/forebay" data read summaries --limit 10
echo
echo "One document is edited; one summary is made again:"
first=$(find documents -type f | sort | head -n 1)
echo "This line was added." >> "$first"
"$bin/forebay" run folder
"$bin/forebay" data log summaries
"$bin/forebay" costs --by pipeline
