# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS := $(shell $(PYTHON) -c "import os; print(1 + (os.cpu_count() or 1))")

.PHONY: demo test check bench format clean

demo: $(READY)
	$(BIN)/phoropter watch "The dog" --max-new-tokens 40

# Compiled tests are kept even where the environment says not to: each worker would compile all of them anew. There is a
# worker more than cores, since tests wait too: for browsers, servers and terminals.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

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

# The pinned versions matter: a bare `torch` would bring gigabytes of GPU packages along. Kernels are compiled once here,
# and not by every worker of the tests.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -c "from runtime.environment import check_kernels; print('kernels:', check_kernels().found)"
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
