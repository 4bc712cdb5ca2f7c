# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench format clean

demo: $(READY)
	$(BIN)/phoropter watch "The dog" --max-new-tokens 40

# Compiled tests are kept even where the environment says not to: each worker would compile all of them anew.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layout.py

# Ratios and counters beside the committed ones; fails when contents differ or a counter stands still, never on time.
bench: $(READY)
	$(BIN)/python scripts/bench.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pinned versions matter: a bare `torch` would bring gigabytes of GPU packages along.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
