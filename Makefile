# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard edge_client/runtime/native/*.c edge_client/runtime/native/*.h)

# Threads are ours to place: a BLAS that starts its own would compete with them.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-e2e check wheels clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1	/' | expand -t 20

demo: $(VENV)/gateway.stamp ## Train one model on eight emulated boards (no torch, no broker needed)
	$(BIN)/fedsparse demo $(ARGS)

test: $(VENV)/dev.stamp ## Run the tests (sets up torch as the oracle)
	$(BIN)/python -m pytest -n 2 -m "not e2e" $(ARGS)

test-e2e: $(VENV)/dev.stamp ## Run the long end-to-end tests
	$(BIN)/python -m pytest -m e2e $(ARGS)

check: $(VENV)/dev.stamp ## Lint, types, import rules
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

wheels: $(VENV)/gateway.stamp ## Build the wheels that devices install, for x86-64 and aarch64, into dist/
	PYTHON="$(CURDIR)/$(BIN)/python" scripts/wheels dist

clean: ## Remove what the other commands made
	rm -rf $(VENV) out dist build edge_client/runtime/native/*.so

$(VENV)/gateway.stamp: pyproject.toml build_native.py scripts/bootstrap $(NATIVE)
	PYTHON="$(PYTHON)" scripts/bootstrap $(VENV) gateway
	@touch $@

$(VENV)/dev.stamp: pyproject.toml build_native.py scripts/bootstrap $(NATIVE)
	PYTHON="$(PYTHON)" scripts/bootstrap $(VENV) dev,torch
	@touch $@ $(VENV)/gateway.stamp
