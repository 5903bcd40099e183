# Everything runs in .venv, which is made on first use and again when its list of packages changes.
PYTHON ?= python3
BIN := .venv/bin
# One thread per process: two test workers share two cores, and sums depend on the thread count.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
BENCHMARKS := benchmarks/step.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format bench docs clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

demo: .venv/installed  ## Align the small model and open the result: runs/demo/report.html
	$(BIN)/palate demo

test: .venv/installed  ## The quick tests (under five minutes on two cores)
	$(ONE_THREAD) $(BIN)/python -m pytest -q -m "not slow" -n 2

test-all: .venv/installed  ## Every test, the slow ones too
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n 2

lint: .venv/installed  ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/installed  ## Rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed  ## Print the figures of benchmarks/
	for file in $(BENCHMARKS); do $(BIN)/python $$file || exit 1; done

docs: .venv/documented  ## Build docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:  ## Remove what was built, but not runs/ and not .venv
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[dev]'
	touch $@

.venv/documented: .venv/installed
	$(INSTALL) --editable '.[dev,docs]'
	touch $@
