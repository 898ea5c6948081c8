# Two commands: `make demo` and `make test`. Both install what they need into .venv first.
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed
PIPELINE := pipelines/quickstart.toml
DEMO := demo
DEMO_KIMG ?= 4
TEST_WORKERS ?= 2

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

# Everything after the install is offline. Stopped half way? The same command goes on.
demo: export HF_HUB_OFFLINE := 1
demo: install
	@mkdir -p $(DEMO)
	$(PY) -m lhq run $(PIPELINE)
	$(PY) -m lhq status $(PIPELINE)
	$(PY) -m lhq report $(PIPELINE) -o $(DEMO)/report.html
	$(PY) -m lhq verify data/quickstart/export
	$(PY) -c "import datasets; rows = datasets.load_dataset('data/quickstart/export'); print(rows); print(rows['train'][0]['image'])"
	$(PY) -m alis train --data data/quickstart/export --config tiny --run.kimg $(DEMO_KIMG) --out runs/quickstart
	$(PY) -m alis panorama runs/quickstart -o $(DEMO)/panorama.png --frames 12 --psi 0.6
	$(PY) -m alis panorama demo -o $(DEMO)/trained.png --frames 24 --psi 0.8
	@echo
	@echo "dataset    data/quickstart/export       (lhq show ID $(PIPELINE) tells all about a photo)"
	@echo "filter     $(DEMO)/report.html"
	@echo "model      runs/quickstart              (a few minutes old; make demo DEMO_KIMG=200 trains it for hours)"
	@echo "panorama   $(DEMO)/panorama.png         by that model"
	@echo "           $(DEMO)/trained.png          by the packaged one, which trained for an hour and a half"
	@echo "live page  .venv/bin/alis serve demo"

test: export OMP_NUM_THREADS ?= 1
test: install
	$(PY) -m pytest -n $(TEST_WORKERS)

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install
	$(PY) -m mypy

bench: install
	@missed=; for script in $$(ls benchmarks/*.py | grep -v -e photo_server -e material); do \
		echo "== $$script"; $(PY) $$script || [ $$? = 3 ] || missed="$$missed $$script"; \
	done; if [ -n "$$missed" ]; then echo "missed a floor or failed:$$missed"; exit 1; fi

clean:
	rm -rf $(DEMO) data/quickstart runs/quickstart .pytest_cache .mypy_cache .ruff_cache
