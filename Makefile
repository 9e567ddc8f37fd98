# Two commands: `make repro` builds everything up to the leaderboard, `make test` proves it.
PYTHON ?= python3
TORCH_REQUIREMENTS ?= requirements-torch.txt
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0

.DELETE_ON_ERROR:
.PHONY: repro test lint peers crawl real lock clean

repro: .venv/.installed
	dvc repro
	@trainyard where

test: .venv/.installed .venv-peers/.installed
	python -m pytest -n auto --dist loadfile

lint: .venv/.installed
	ruff check . && ruff format --check . && mypy

# torch is pinned and goes first, so that a local CPU wheel or an index of one's own serves; the rest is hashed.
.venv/.installed: requirements.lock requirements-torch.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Trainyard needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	python -m pip install --quiet --requirement $(TORCH_REQUIREMENTS)
	python -m pip install --quiet --require-hashes --requirement requirements.lock
	python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Peers and oracles of tests and benchmarks never enter the project's environment.
peers: .venv-peers/.litgpt
.venv-peers/.installed: bench/requirements.lock bench/requirements-axe.txt requirements-torch.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --requirement $(TORCH_REQUIREMENTS)
	.venv-peers/bin/python -m pip install --quiet --require-hashes \
		--requirement bench/requirements.lock --constraint bench/requirements.lock
	.venv-peers/bin/python -m pip install --quiet --no-deps --require-hashes --requirement bench/requirements-axe.txt
	@touch $@
.venv-peers/.litgpt: bench/requirements-litgpt.txt .venv-peers/.installed
	.venv-peers/bin/python -m pip install --quiet --no-deps --require-hashes --requirement $<
	@touch $@

# Installed documentation as a crawl, with planted faults, through the corpus on one process, two and Ray.
PAGES = 20000
crawl: .venv/.installed
	python bench/corpus/rehearsal.py --pages $(PAGES)

# Post-training of a real model of 135M parameters (scales/real.yaml), in .trainyard/real/.
real: .venv/.installed .venv-peers/.real
	python bench/real/run.py
.venv-peers/.real: bench/requirements-real.txt .venv-peers/.installed
	.venv-peers/bin/python -m pip install --quiet --no-deps --require-hashes --requirement $<
	@touch $@

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --output-file requirements.lock requirements.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --overrides bench/overrides.txt \
		--output-file bench/requirements.lock bench/requirements.in

clean:
	rm -rf data .trainyard
