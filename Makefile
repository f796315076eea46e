# Thin on purpose: every target is a script or a command that can be run by hand as well.
.DEFAULT_GOAL := help
.PHONY: help install serve test test-deep check weights bench clean
unexport PYTHONPATH PYTHONHOME

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: ## Make .venv with everything in it (PYTHON=python3.12, TORCH_INDEX=url)
	@sh scripts/install

serve: ARGS ?= --replay examples/session.xdf --loop
serve: install ## Start the service and its dashboard (ARGS="--eeg auto" for a live headset)
	.venv/bin/clmer-serve $(ARGS)

test: install ## Run the tests (ARGS="-k windows" goes to pytest)
	@sh scripts/test $(ARGS)

test-deep: install ## Run the long tests
	@sh scripts/test-deep $(ARGS)

check: install ## Lint, format and types
	@sh scripts/check

weights: install ## Train the shipped weights again on simulated people
	@sh scripts/weights

bench: install ## Run the benchmarks
	@sh scripts/bench $(ARGS)

clean: ## Remove .venv and everything that was built
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find server streaming model tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
