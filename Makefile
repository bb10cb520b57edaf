# Every target does all it needs: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow chaos lint bench replication clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "tas_bench needs Python 3.11 to 3.13; this is $$($(PYTHON) --version): make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/tas-bench run demo --results results/runs/demo

test: setup
	$(BIN)/python -m pytest -n 4 --no-loadscope-reorder --durations=10

test-slow: setup
	$(BIN)/python -m pytest -m slow --timeout=1800

chaos: setup
	$(BIN)/python -m pytest -m chaos --timeout=2400

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# The comparison on real CIFAR that RESULTS.md tells of: hours on 2 cores, stopped and gone on with at will.
DATA ?= data
replication: setup
	$(BIN)/python results/replication.py --data $(DATA)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
