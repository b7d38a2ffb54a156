# The front door. CI runs these targets and nothing else.
VENV ?= .venv
PYTHON ?= python3
SEED ?= 1
MINUTES ?= 5
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
PROTOS := $(sort $(wildcard protos/swarmkit/*/*.proto))
.DEFAULT_GOAL := help
.PHONY: help venv lint protos protos-fresh unit test soak demo demo-down bench clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

venv: $(VENV)/.installed ## Create .venv and install the project with its development tools

$(VENV)/.installed: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -e '.[dev]'
	touch $@

lint: venv ## Format, lint, types, import directions, generated code fresh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(MAKE) --no-print-directory protos-fresh

protos: venv ## Regenerate swarmkit/**/*_pb2*.py[i] from protos/
	PATH="$(BIN):$$PATH" $(PY) -m grpc_tools.protoc -I protos --python_out=. --grpc_python_out=. \
		--mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)

protos-fresh: venv
	@out=$$(mktemp -d) && PATH="$(BIN):$$PATH" $(PY) -m grpc_tools.protoc -I protos --python_out=$$out \
		--grpc_python_out=$$out --mypy_out=quiet:$$out --mypy_grpc_out=quiet:$$out $(PROTOS) && \
	(cd $$out && find . -type f) | while read -r file; do \
		cmp -s "$$out/$$file" "$$file" || { echo "$$file is not what 'make protos' generates"; exit 1; }; done; \
	status=$$?; rm -rf "$$out"; exit $$status

unit: venv ## Run the unit tests alone
	$(BIN)/pytest -q tests/unit

test: lint ## Run all checks and all tests
	$(PY) -m tools.lanes

soak: venv ## Random trouble for real daemons and for simulated raft groups, for minutes: SEED=1 MINUTES=5
	SWARMKIT_CHAOS_SEED=$(SEED) SWARMKIT_CHAOS_SECONDS=$$(($(MINUTES) * 60)) $(BIN)/pytest -q -m soak tests/fault
	$(PY) -m tests.sim.raft_soak --minutes $(MINUTES) --seed $(SEED)

demo: venv ## Run a swarm of three nodes on this machine, with a service on it
	$(PY) -m tools.demo up

demo-down: venv ## Stop the demo
	$(PY) -m tools.demo down

bench: venv ## Print the benchmark table
	$(PY) -m benchmarks

clean: ## Remove what was built; .venv too
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
