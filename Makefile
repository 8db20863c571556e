# Everything from nothing: each target sets up the environment first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast lint format clean results

demo: $(STAMP)
	$(BIN)/dualcam demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'dualcam needs Python 3.11 or newer; pass PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]" -c constraints.txt
	touch $(STAMP)

results: $(STAMP)
	$(BIN)/python tools/results.py --data-root "$(DUALCAM_DATA)"

clean:
	rm -rf $(VENV) demo-output .pytest_cache .mypy_cache .ruff_cache
