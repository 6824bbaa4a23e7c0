# Targets for people and for CI. Build output stays outside the checkout, so that `git status` stays quick, in a directory
# for each checkout: two of them would otherwise overwrite each other's binaries. Set CARGO_TARGET_DIR to put it elsewhere.
SHELL := /bin/bash
CHECKOUT := $(shell printf %s '$(CURDIR)' | cksum | cut -d ' ' -f 1)
export CARGO_TARGET_DIR ?= $(HOME)/.cache/pharos/$(notdir $(CURDIR))-$(CHECKOUT)
PHAROS := $(CARGO_TARGET_DIR)/debug/pharos
RELEASE := $(CARGO_TARGET_DIR)/release/pharos
DATA ?= pharos-data
NODES ?= 3

.DEFAULT_GOAL := help
.PHONY: help run build test fmt lint unit peers docs bench

help: ## Lists the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | while IFS='|' read -r name what; do printf '  make %-8s %s\n' "$$name" "$$what"; done

build: ## Builds the pharos binary
	cargo build --locked -p server

run: build ## Builds, and starts a cluster of three nodes with live data on this machine
	@$(PHAROS) dev --nodes $(NODES) --data-dir $(DATA)

test: peers fmt lint unit ## Runs everything that CI runs

fmt: ## Checks the formatting
	cargo fmt --all -- --check

lint: ## Runs clippy; a warning is an error
	cargo clippy --locked --workspace --all-targets -- -D warnings

unit: build ## Runs all tests
	PHAROS_BIN=$(PHAROS) cargo test --locked --workspace

# Real Prometheus and node_exporter, against which answers are compared. Installed where that is possible; where it is
# not, the tests that need them say so, and in CI fail.
peers: ## Installs the programs that tests compare with (Debian: prometheus, prometheus-node-exporter)
	@.ci/peers

docs: ## Writes docs/config.md, docs/openapi.json and docs/promql.md anew
	PHAROS_BLESS=1 cargo test --locked -p server --lib the_committed
	PHAROS_BLESS=1 cargo test --locked -p query --test docs

bench: ## Measures ingest and queries with a release build, beside other stores that are installed
	cargo build --locked --release -p server
	$(RELEASE) bench compare $(if $(BENCH_QUERIES),--queries $(BENCH_QUERIES))
	$(RELEASE) bench ingest --workload b
