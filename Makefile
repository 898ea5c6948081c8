# Two commands: `make demo` and `make test`. Each installs what it needs into .venv first, in the newest versions that
# pyproject.toml allows (LOCK="-c requirements.lock" takes those of the lock file).
PYTHON ?= python3
PY := .venv/bin/python
LOCK ?=
PIPELINE := pipelines/quickstart.toml
DEMO := demo
DEMO_HOURS ?= 0.07
TEST_WORKERS ?= 3
FUZZ_SECONDS ?= 60

.PHONY: help install demo test lint types docs lock bench peers fuzz clean

help:
	@echo "make demo    from queries to a panorama, offline, on the CPU; results in $(DEMO)/"
	@echo "make test    the whole test suite"
	@echo "make lint    ruff"
	@echo "make types   mypy"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make bench   every benchmark small, ten minutes, one table of ratios; make peers installs what it measures beside"
	@echo "make fuzz    every reader of foreign bytes against mutated files, a minute each; findings in fuzz/found/"
	@echo "make clean   forget the demo's results and the caches (keeps .venv)"

install: .venv/.dev

# The demo's stamp is older than the suite's, so a suite's environment runs the demo as it is.
.venv/.demo: EXTRAS := train,web
.venv/.dev: EXTRAS := dev
.venv/.demo .venv/.dev: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version); try make PYTHON=python3.11" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet $(LOCK) --editable '.[$(EXTRAS)]'
	@touch .venv/.demo $@

# Everything after the install is offline. Stopped half way? The same command goes on.
demo: export HF_HUB_OFFLINE := 1
demo: .venv/.demo
	@mkdir -p $(DEMO)
	$(PY) -m lhq run $(PIPELINE)
	$(PY) -m lhq status $(PIPELINE)
	$(PY) -m lhq report $(PIPELINE) -o $(DEMO)/report.html
	$(PY) -m lhq verify data/quickstart/export
	$(PY) -c "import datasets; rows = datasets.load_dataset('data/quickstart/export'); print(rows); print(rows['train'][0]['image'])"
	$(PY) -m alis train --data data/quickstart/export --size 64 --hours $(DEMO_HOURS) --out runs/demo
	$(PY) -m alis panorama runs/demo -o $(DEMO)/panorama.png --frames 12 --psi 0.6
	$(PY) -m alis panorama demo -o $(DEMO)/trained.png --frames 24 --psi 0.8
	@echo
	@echo "dataset    data/quickstart/export       (lhq show ID $(PIPELINE) tells all about a photo)"
	@echo "filter     $(DEMO)/report.html"
	@echo "model      runs/demo                    (four minutes old; alis train --data data/quickstart/export --hours 2 --out runs/mine gives it more)"
	@echo "panorama   $(DEMO)/panorama.png         by that model"
	@echo "           $(DEMO)/trained.png          by the packaged one, which trained for hours"
	@echo "live page  .venv/bin/alis serve demo"

test: export OMP_NUM_THREADS ?= 1
test: install
	@$(PY) -m tests.alis.web.npm >/dev/null  # browser libraries for tests; offline, those tests are skipped
	$(PY) -m pytest -n $(TEST_WORKERS)

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: install
	$(PY) -m mypy

docs: install
	$(PY) docs/reference.py
	$(PY) -m mkdocs build --quiet
	@echo "open site/index.html"

# The versions that demo and CI install, for every Python and platform that pyproject.toml allows.
lock: install
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url --no-annotate --custom-compile-command "make lock" -o requirements.lock pyproject.toml

bench: install
	$(PY) benchmarks/bench.py

# What a benchmark is measured beside, in an environment of its own.
peers: .peers/img2dataset/bin/img2dataset
.peers/img2dataset/bin/img2dataset:
	$(PYTHON) -m venv .peers/img2dataset
	.peers/img2dataset/bin/pip install --quiet img2dataset==1.47

# FUZZ_SECONDS for each target; `.venv/bin/pip install '.[fuzz]'` lets coverage guide the search.
fuzz: install
	$(PY) fuzz/run.py --seconds $(FUZZ_SECONDS)

clean:
	rm -rf site $(DEMO) data/quickstart runs/demo .pytest_cache .mypy_cache .ruff_cache
