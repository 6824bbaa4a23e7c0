# Targets for people and for CI. Build output stays outside the checkout, so that `git status` stays quick, in a directory
# for each checkout: two of them would otherwise overwrite each other's binaries. Set CARGO_TARGET_DIR to put it elsewhere.
SHELL := /bin/bash
CHECKOUT := $(shell printf %s '$(CURDIR)' | cksum | cut -d ' ' -f 1)
export CARGO_TARGET_DIR ?= $(HOME)/.cache/pharos/$(notdir $(CURDIR))-$(CHECKOUT)
PHAROS := $(CARGO_TARGET_DIR)/debug/pharos
RELEASE := $(CARGO_TARGET_DIR)/release/pharos
DATA ?= pharos-data
NODES ?= 3
FOR ?= 1h
SOAK ?= $(HOME)/.cache/pharos/soak.json

.DEFAULT_GOAL := help
.PHONY: help run build tested ui test fmt lint unit peers pages docs soak bench bench-ui

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | while IFS='|' read -r name what; do printf '  make %-9s %s\n' "$$name" "$$what"; done

build: ## Builds the pharos binary
	cargo build --locked -p server

# Nothing is done where its sources are as they were. Without Node: make run NO_UI=1.
ui: ## Builds the web UI (Node 20.19 or newer)
	@$(if $(NO_UI),true,.ci/ui build)

# What the tests run, built with the features that all crates and their tests take together: nothing is compiled twice.
tested:
	cargo build --locked --workspace --bins --tests

run: ui build ## Builds, and starts a cluster of three nodes with live data on this machine
	@$(PHAROS) dev --nodes $(NODES) --data-dir $(DATA)

test: peers fmt lint pages unit ## Runs everything that CI runs

fmt: ## Checks the formatting
	cargo fmt --all -- --check

lint: ## Runs clippy; a warning is an error
	cargo clippy --locked --workspace --all-targets -- -D warnings

unit: tested ## Runs all tests
	PHAROS_BIN=$(PHAROS) cargo test --locked --workspace

pages: ui tested ## Checks and tests the web UI, in a real browser too
	.ci/ui test
	PHAROS_BIN=$(PHAROS) .ci/ui browser

# Real Prometheus, node_exporter, vmalert and rsyslog, which send, or against which answers are compared. Installed where that is
# possible; where it is not, the tests that need them say so, and in CI fail.
peers: ## Installs the programs that tests need (Debian: prometheus, prometheus-node-exporter, victoria-metrics, rsyslog, postgresql-client)
	@.ci/peers

docs: ## Writes docs/config.md, docs/openapi.json and docs/promql.md anew
	PHAROS_BLESS=1 cargo test --locked -p server --lib the_committed
	PHAROS_BLESS=1 cargo test --locked -p query --test docs

# With debug assertions: they are part of what is looked for.
soak: tested ## Simulates fresh seeds for FOR=1h, and tells the total of all soaks
	$(PHAROS) chaos soak --for $(FOR) --account $(SOAK) --revision $$(git rev-parse --short HEAD)

bench: ui ## Measures ingest and queries with a release build, beside other stores that are installed
	cargo build --locked --release -p server
	$(RELEASE) bench compare $(if $(BENCH_QUERIES),--queries $(BENCH_QUERIES))
	$(RELEASE) bench ingest --workload b
	$(RELEASE) bench logs $(if $(shell command -v victoria-logs),--victoria-logs)
	$(RELEASE) bench logs --nodes 3
	$(RELEASE) bench traces
	$(RELEASE) bench traces --nodes 3
	$(RELEASE) bench sql

bench-ui: ui build ## Measures the pages: sizes, and times in a real browser
	PHAROS_BIN=$(PHAROS) .ci/ui bench
