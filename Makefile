# make demo    build, run a pipeline over a year of flights, and summarise a long document on a local model
# make test    everything that has to pass before a change lands
# make help    the rest

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Outside the clone, so that a fresh one starts warm.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/forebay/target
export FOREBAY_FIXTURES ?= $(HOME)/.cache/forebay/fixtures
# LightGBM wants a newer cmake than Debian's: where there is none, `make setup` puts one here.
export FOREBAY_CMAKE ?= $(HOME)/.cache/forebay/cmake
export PATH := $(FOREBAY_CMAKE)/cmake/data/bin:$(PATH)
# `ci` runs every test although one failed.
NEXTEST_PROFILE ?= default

CARGO := cargo
XTASK := $(CARGO) run --locked --quiet -p xtask --

.PHONY: help demo dist test build lint unit postgres clients setup fixtures licences faults fuzz

help:  ## Lists the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## Installs what building needs beside Rust (cmake, a C++ compiler, libclang, PostgreSQL); nothing when it is there
	@xtask/setup.sh

fixtures: setup  ## Fetches the models and documents of fixtures.toml, and checks their sums
	@$(XTASK) fixtures

build: setup  ## Builds the release binaries, the workers of local models and of training too
	$(CARGO) build --locked --release -p forebay -p forebay-llama -p forebay-lightgbm

dist: setup  ## Builds the binaries that are handed out, optimised over all crates: an hour on two cores
	$(CARGO) build --locked --profile dist -p forebay -p forebay-llama

demo: setup fixtures build  ## Flights become checked datasets, and a model that is gated and answers; a document of more than 50,000 tokens is summarised
	examples/flights/demo.sh
	examples/flight-delay/demo.sh
	examples/flight-delay/replay/demo.sh
	examples/summarize/demo.sh

lint: setup  ## What a machine can check without running anything
	$(XTASK) tidy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(MAKE) --no-print-directory licences

licences:  ## Licences, bans and advisories of every dependency
	@if command -v cargo-deny >/dev/null; then \
	  $(CARGO) deny --workspace check licenses bans sources; \
	else \
	  $(XTASK) licences; \
	fi

unit: setup  ## All Rust tests
	$(CARGO) test --locked --doc --workspace --quiet
	@if command -v cargo-nextest >/dev/null; then \
	  $(CARGO) nextest run --locked --workspace --no-tests=fail --profile $(NEXTEST_PROFILE); \
	else \
	  echo "cargo-nextest is not here (cargo install cargo-nextest --locked): cargo test takes its place"; \
	  $(CARGO) test --locked --workspace --lib --bins --tests; \
	fi

postgres: setup  ## The end-to-end tests of jobs, runs, batches, budgets and the ledger once more, with everything kept in PostgreSQL
	FOREBAY_TEST_STORAGE=postgres $(CARGO) nextest run --locked --workspace --profile $(NEXTEST_PROFILE) \
	  -E 'package(forebay) & test(/^(jobs|batches_crash|runs_crash|budgets|serve|caching|replay|cancel|drain|failures|rescue|resume)::/)'

clients: setup  ## The official client libraries against a running server
	@# As the tests have it: another choice of packages is another choice of features, and builds the query engine once more.
	$(CARGO) test --locked --workspace --no-run --quiet
	FOREBAY_BIN=$(CARGO_TARGET_DIR)/debug tests/drive.sh clients
	FOREBAY_BIN=$(CARGO_TARGET_DIR)/debug tests/drive.sh feast
	FOREBAY_BIN=$(CARGO_TARGET_DIR)/debug tests/drive.sh mlflow

faults: setup  ## Sixteen faults of an upstream against the release build, ten times as fast as in the catalogue
	$(CARGO) build --locked --release -p forebay
	bench/faults/run.py --forebay $(CARGO_TARGET_DIR)/release/forebay --only forebay --time-scale 10

fuzz:  ## Every parser against made-up input, FUZZ_SECONDS each (60), or FUZZ_TARGETS alone; needs nightly
	@fuzz/run.sh

test: setup  ## Everything that has to pass before a change lands
	@$(XTASK) fixtures --keep-going
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory clients
	@$(XTASK) fixtures --status
