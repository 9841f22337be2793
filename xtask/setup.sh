#!/usr/bin/env bash
# Installs what building and testing need beside the Rust toolchain: nothing when all of it is there.
# Debian and its kin by apt-get (with sudo when not root); elsewhere it says what to install.
set -euo pipefail

missing=()
need() { missing+=("$1"); }
has() { command -v "$1" >/dev/null 2>&1; }

has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] && return 0
  local file
  # As bindgen looks for it: `libclang-cpp`, which comes with LLVM alone, is another library.
  for file in {/usr/lib/llvm-*/lib,/usr/lib/*,/usr/lib64}/libclang{.so*,-[0-9]*.so*} \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
    /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/libclang.dylib \
    /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib; do
    [ -e "$file" ] && return 0
  done
  return 1
}

has_postgres() {
  local file
  for file in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$file" ] && return 0
  done
  has initdb
}

if ! has cargo; then
  echo "setup: no cargo: install the Rust toolchain (rustup) first" >&2
  exit 1
fi
# The workers are llama.cpp and LightGBM: cmake and a C++17 compiler build them, libclang reads their headers.
has cmake || need cmake
has c++ || has g++ || need g++
has_libclang || need libclang-dev
# Fixtures and the clients' suites; packages are downloaded, never installed into the system's Python.
has git || need git
has python3 || need python3
python3 -m pip --version >/dev/null 2>&1 || need python3-pip
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || need python3-venv
# Tests start a server of their own; nothing is served by the one that the package may begin.
has_postgres || need postgresql

# LightGBM asks for cmake 3.28, Debian 12 has 3.25: the `cmake` wheel holds the program itself. Outside the clone, and
# first in the Makefile's PATH.
new_enough() {
  "$1" --version 2>/dev/null | awk 'NR == 1 { split($3, v, "."); exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 28)) }'
}
fetch_cmake() {
  local folder="${FOREBAY_CMAKE:-$HOME/.cache/forebay/cmake}"
  new_enough cmake || new_enough "$folder/cmake/data/bin/cmake" && return 0
  echo "setup: cmake is older than 3.28: installing the wheel into $folder"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --only-binary :all: --upgrade --target "$folder" cmake==3.31.10
  new_enough "$folder/cmake/data/bin/cmake"
}

if [ ${#missing[@]} -eq 0 ]; then
  fetch_cmake
  echo "setup: nothing more to install"
  exit 0
fi

if has apt-get; then
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! has sudo; then
      echo "setup: missing: ${missing[*]}; as root: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    root=(sudo)
  fi
  echo "setup: installing with apt-get: ${missing[*]}"
  "${root[@]+"${root[@]}"}" apt-get -qq -o Acquire::Retries=3 update
  "${root[@]+"${root[@]}"}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o Acquire::Retries=3 install -y --no-install-recommends "${missing[@]}"
  fetch_cmake
  exit 0
fi

echo "setup: missing (by their Debian names): ${missing[*]}" >&2
if [ "$(uname)" = Darwin ]; then
  echo "setup: on macOS: xcode-select --install; brew install cmake llvm python git postgresql" >&2
else
  echo "setup: install them with your system's package manager and run this again" >&2
fi
exit 1
