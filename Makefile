# What a developer calls. `make` alone lists it. PYTHON is the interpreter of the environment.
PYTHON ?= python
PYTEST = $(PYTHON) -m pytest
CSRC = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help setup test quick lint coverage spelling bench gpu

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 10

setup: ## install the package in place, with what tests and linters need
	$(PYTHON) -m pip install -c constraints.txt -e ".[dev]"
	$(PYTHON) -m pre_commit install

test: ## everything that runs without a GPU
	$(PYTEST) -n auto

quick: ## in two minutes: no training, compiling or child processes; each test with two parameters
	$(PYTEST) -n auto -m "not slow and not cuda" --few 2 -r f tests

lint: spelling ## formats, rules, types and spelling, as CI checks them
	ruff check .
	ruff format --check .
	mypy
	mypy benchmarks/conftest.py
	clang-format --dry-run -Werror $(CSRC)

coverage: ## everything that runs without a GPU, and the lines of Python that it does not reach
	$(PYTEST) -n auto --cov --cov-report=term:skip-covered --cov-report=html

spelling: ## words that are misspelled, or not American
	codespell

bench: ## CPU timings of README.md; needs cores that have nothing else to do
	benchmarks/cpu_check.sh

gpu: ## build, test and measure on this machine's GPU, in ten minutes
	benchmarks/gpu_check.sh
