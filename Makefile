# make demo   from nothing to a report of alanine dipeptide's equilibrium ensemble
# make test   the test suite
# Needs Python 3.11 or newer; another interpreter: make demo PYTHON=python3.12
# PIP_ARGS goes to pip: on Linux, PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu' takes PyTorch without CUDA.

PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?= 2
TEST_ARGS ?=
DEMO ?= demo

BIN := .venv/bin
INSTALLED := .venv/.installed
DOCS_INSTALLED := .venv/.docs-installed
SOURCES := src tests $(wildcard benchmarks examples)

# One thread a process: the tests run in $(WORKERS) processes, and spinning threads that share cores slow each other down.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint format docs clean

help:
	@echo "make demo     install into .venv, sample 1,000 conformations of ACE-ALA-NME, write $(DEMO)/report.html"
	@echo "make test     run the tests (TEST_ARGS='-m \"not slow\"' for the quick ones)"
	@echo "make lint     ruff (rules and format) and mypy"
	@echo "make format   let ruff rewrite the sources"
	@echo "make docs     build the documentation into site/"
	@echo "make venv     only install"
	@echo "make clean    remove caches and built pages (never .venv, nor $(DEMO)/)"

venv: $(INSTALLED)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "equilibra needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make venv PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "'$(PYTHON)' cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[test]'
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/equilibra sample molecule ACE-ALA-NME -n 1000 --seed 0 -o $(DEMO)/ --report
	@echo "Open $(abspath $(DEMO))/report.html in a browser."

test: $(INSTALLED)
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) $(TEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

docs: $(DOCS_INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf site build dist .mypy_cache .ruff_cache .pytest_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
