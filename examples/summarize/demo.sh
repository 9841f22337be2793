#!/usr/bin/env bash
# Summarises a document of more than 50,000 tokens on a local model, and leaves the server running.
# Usage: demo.sh [DOCUMENT]. Needs the binaries (make build) and the fixtures (make fixtures).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
bin=${FOREBAY_BIN:-$target/release}
fixtures=${FOREBAY_FIXTURES:-$HOME/.cache/forebay/fixtures}
project=${FOREBAY_DEMO:-$HOME/.cache/forebay/demo}
document=${1:-$fixtures/debian-handbook.html}
model=qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
address=127.0.0.1:8080

for file in "$bin/forebay" "$bin/forebay-llama" "$fixtures/$model" "$document"; do
  [ -e "$file" ] || { echo "error: $file is missing"; echo "  help: run \`make build fixtures\`"; exit 1; }
done

mkdir -p "$project"
cp -r "$here/forebay.yaml" "$here/prompts" "$project/"
ln -sf "$fixtures/$model" "$project/$model"
"$bin/forebay" --project "$project" check

# A server left over from an earlier run is replaced.
if [ -f "$project/server.pid" ]; then
  kill "$(cat "$project/server.pid")" 2>/dev/null || true
  while kill -0 "$(cat "$project/server.pid")" 2>/dev/null; do read -rt 0.1 <> <(:) || true; done
fi
: > "$project/server.log"
"$bin/forebay" --project "$project" up --listen "$address" < /dev/null >> "$project/server.log" 2>&1 &
echo $! > "$project/server.pid"
until grep -q '^listening' "$project/server.log"; do
  kill -0 "$(cat "$project/server.pid")" || { cat "$project/server.log"; exit 1; }
  read -rt 0.1 <> <(:) || true
done
cat "$project/server.log"

export FOREBAY_URL=http://$address
"$bin/forebay" run summarize "$document" 2>&1 | tee "$project/last.txt"
id=$(sed -n 's/^request \(req_[0-9a-f]*\)$/\1/p' "$project/last.txt")
echo
"$bin/forebay" explain "$id"
"$bin/forebay" costs --by pipeline
echo
echo "The server is running at http://$address (pid $(cat "$project/server.pid")); stop it with: kill $(cat "$project/server.pid")"
