# One command a line: `make` lists them. They need make and Python >= 3.11 with its venv module, nothing else.

PYTHON  ?= python3
VENV    ?= .venv
PROJECT ?= flights
PORT    ?= 8787
RATE    ?= 2000
LIMIT   ?=
EXIT    ?=

PY  := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
# One more than there are processors: tests wait a third of their time, for servers and for what they have killed.
TEST_PROCESSES = $(shell $(PY) -c 'import os; print((os.cpu_count() or 1) + 1)')
LOCK := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -c requirements/held.txt
PEER_LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-fast lint format check-types check-imports check-run check-wheel bench soak kafka lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN_STAMP) ## start the flights example and replay a year of real data through its webhook
	@[ -e $(PROJECT)/graph.yml ] || $(VENV)/bin/millstream init $(PROJECT) --example flights
	@exec $(PY) -m millstream.examples.replay --project $(PROJECT) --port $(PORT) --rate $(RATE) \
	    $(if $(LIMIT),--limit $(LIMIT)) $(if $(filter-out 0,$(EXIT)),--exit)

test: $(DEV_STAMP) ## run everything that CI runs
	@$(PY) -m tests.prerequisites
	@$(MAKE) --no-print-directory -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) \
	    lint check-types check-imports check-run check-wheel
	$(PY) -m pytest -n $(TEST_PROCESSES) --dist worksteal -ra --durations=10

test-fast: $(DEV_STAMP) ## run the tests of logic and of the embedded store
	$(PY) -m pytest -n auto -q -m "not postgres" tests/unit tests/contract

lint: $(DEV_STAMP) ## check style and format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

check-types: $(DEV_STAMP) ## check types
	$(PY) -m mypy

check-imports: $(DEV_STAMP) ## check that imports go one way
	$(VENV)/bin/lint-imports

check-run: ## run the flights example with a part of its data, to its end
	@rm -rf build/flights
	@mkdir -p build
	@$(MAKE) --no-print-directory run PROJECT=build/flights PORT=0 RATE=0 LIMIT=20000 EXIT=1

check-wheel: $(DEV_STAMP) ## build the wheel, install it apart, and run the main job from it
	$(PY) -m tests.wheel

format: $(DEV_STAMP) ## put style and format right
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(DEV_STAMP) ## measure, with the limits of this machine beside each number
	$(PY) -m bench

soak: $(DEV_STAMP) ## run the full counts of crashes, simulations and replays
	$(PY) -m bench.soak

lock: ## resolve the locked requirements again (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: python3 -m pip install uv" >&2; exit 2; }
	$(LOCK) --extra kafka --extra postgres -o requirements/runtime.txt
	$(LOCK) --extra kafka --extra postgres --extra examples --group build -c requirements/runtime.txt -o requirements/examples.txt
	$(LOCK) --extra kafka --extra postgres --extra examples --group dev -c requirements/examples.txt -o requirements/dev.txt
	$(PEER_LOCK) --group pyproject.toml:build -c requirements/examples.txt -o requirements/build.txt
	for peer in bench/peers/*/; do $(PEER_LOCK) $${peer}requirements.in -o $${peer}requirements.txt || exit 1; done

kafka: PORT := 9092
kafka: $(DEV_STAMP) ## start a Kafka broker for this machine, until Ctrl-C (needs Java 17 and Maven)
	@PORT=$(PORT) exec $(PY) -m tests.kafka_server run

clean: ## remove the environment, what was built and all caches; the flights project stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Millstream needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo "Python's venv module is missing; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements/examples.txt pyproject.toml | $(PY)
	@$(PIP) --version >/dev/null 2>&1 || $(PY) -m ensurepip
	$(PIP) install --progress-bar on --require-hashes -r requirements/examples.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# What `run` needs is among it.
$(DEV_STAMP): requirements/dev.txt pyproject.toml | $(PY)
	@$(PIP) --version >/dev/null 2>&1 || $(PY) -m ensurepip
	$(PIP) install --progress-bar on --require-hashes -r requirements/dev.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $(RUN_STAMP) $@
