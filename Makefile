# Two commands: `make demo` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed
PIPELINE := pipelines/quickstart.toml
DEMO := demo

.PHONY: help install demo test lint types bench clean

help:
	@echo "make demo    from queries to a panorama, offline, on the CPU; results in $(DEMO)/"
	@echo "make test    the whole test suite"
	@echo "make lint    ruff and mypy"
	@echo "make bench   every benchmark, side by side with its peer; figures in benchmarks/results/"
	@echo "make clean   forget the demo's results and the caches (keeps .venv)"

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version); try make PYTHON=python3.11" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install
	$(PY) -m lhq run $(PIPELINE)
	$(PY) -m lhq status $(PIPELINE)

test: install
	$(PY) -m pytest

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install
	$(PY) -m mypy

clean:
	rm -rf $(DEMO) data/quickstart runs/quickstart .pytest_cache .mypy_cache .ruff_cache
