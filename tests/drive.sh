#!/usr/bin/env bash
# Drives a running `forebay` by official, unmodified clients: those of tests/clients, tests/feast or tests/mlflow.
# Usage: drive.sh clients|feast|mlflow [PYTEST-ARGUMENT]...
#
# FOREBAY_BIN names a folder with a built `forebay` (unless given, the dev build is made); FOREBAY_VENV the folder the
# clients are installed in, outside the clone, so that the second run is quick.
set -euo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$tests/.." && pwd)
suite=${1:-}
here=$tests/$suite
[ -n "$suite" ] && [ -f "$here/requirements.txt" ] || { echo "usage: $0 clients|feast|mlflow [PYTEST-ARGUMENT]..." >&2; exit 2; }
shift
venv=${FOREBAY_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/forebay/venv-$suite}

skip() {
  printf '%s\n' '' \
    '!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!' \
    "!!! SKIPPED: the tests with the official clients (tests/$suite) did not run" \
    "!!! because $1" \
    '!!! Nothing is proven about the packages of its requirements.txt.' \
    '!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!' >&2
  # A machine that must run them sets this.
  [ -z "${FOREBAY_CLIENTS_REQUIRED:-}" ] || exit 1
  exit 0
}

python=$(command -v python3 || true)
[ -n "$python" ] || skip "there is no python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "python3 is older than 3.10"

# The stamp is a copy of the pins that were installed: nothing is asked of an index while they stay the same.
stamp=$venv/installed.txt
if ! cmp -s "$here/requirements.txt" "$stamp"; then
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" >&2 || skip "python3 cannot make a virtual environment"
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
    -r "$here/requirements.txt"; then
    skip "the packages of tests/$suite/requirements.txt cannot be installed (see above): no index is reachable?"
  fi
  cp "$here/requirements.txt" "$stamp"
fi

if [ -n "${FOREBAY_BIN:-}" ]; then
  forebay=$FOREBAY_BIN/forebay
else
  (cd "$root" && cargo build --locked --quiet -p forebay)
  forebay=${CARGO_TARGET_DIR:-$root/target}/debug/forebay
fi
[ -x "$forebay" ] || { echo "error: $forebay is missing" >&2; exit 1; }

cd "$here"
PYTHONDONTWRITEBYTECODE=1 FOREBAY="$forebay" exec "$venv/bin/python" -m pytest -p no:cacheprovider -q "$@"
