# Targets a newcomer needs. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
# auto: torch's small build for CPUs where there is no NVIDIA GPU; cpu, default (what the package index has)
TORCH ?= auto
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install dev demo test check windows docs man constraints build clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) tools/install.py $(VENV) --torch $(TORCH)
	@touch $@

$(VENV)/.dev: pyproject.toml
	@$(PYTHON) tools/install.py $(VENV) --torch $(TORCH) --extras dev
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed ## make .venv and install sparkvsr into it

dev: $(VENV)/.dev ## the same with the tools for tests and checks

demo: $(VENV)/.installed ## upscale a real clip and say where the result is
	@$(BIN)/python benchmarks/demo.py $(if $(CLIP),--clip "$(CLIP)")

# A process for each core, four at most: each takes up to 3 GB. Waiting threads sleep instead of taking the others' cores.
test: $(VENV)/.dev ## run the whole test suite
	GOMP_SPINCOUNT=0 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

check: $(VENV)/.dev ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

windows: $(VENV)/.dev ## types with Windows in mind: what only POSIX has must be guarded
	$(BIN)/mypy --platform win32

docs: $(VENV)/.dev ## the documentation site into site/
	$(BIN)/python -m mkdocs build --strict

man: $(VENV)/.installed ## man pages into man/man1
	$(BIN)/python tools/command_pages.py --man man/man1

constraints: $(VENV)/.dev ## write the versions installed now into .ci/constraints.txt
	$(BIN)/python .ci/constraints.py > .ci/constraints.txt

build: $(VENV)/.dev man ## sdist and wheel into dist/, man pages in both
	rm -rf build dist
	$(BIN)/python -m build

clean: ## remove what the targets made
	rm -rf $(VENV) build dist demo site man .pytest_cache .ruff_cache .mypy_cache
