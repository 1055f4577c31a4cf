# SPDX-License-Identifier: Apache-2.0
# `make` lists what there is. ARGS= passes arguments on, as in `make demo ARGS=--help`.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup test test-long demo bench boards firmware flash lint types format lock clean

BIN := .venv/bin
CODE := host protocols firmware card_applet_sim hardware tests

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## install what is needed, once: system packages (Debian, Ubuntu) and .venv
	@.ci/setup

# One process more than a small machine has cores: a third of the time tests wait for disks, cards and clocks.
test: setup lint types ## check everything: lint, types, all tests
	$(BIN)/pytest -n 3 --dist worksteal $(ARGS)

test-long: setup ## what `make test` leaves out for the minutes that it takes
	$(BIN)/pytest -m long $(ARGS)

demo: setup ## show a payment from issue to redemption
	$(BIN)/chipcash demo $(ARGS)

bench: setup ## measure; writes build/bench.json
	@mkdir -p build
	$(BIN)/python tests/bench/bench.py $(ARGS)

boards: setup ## write what follows from the boards' data: wiring, tables, the firmware's pins
	$(BIN)/python hardware/generate.py

firmware: setup ## build the boards' images; writes build/firmware
	$(BIN)/python firmware/build.py $(ARGS)

flash: setup ## put the card onto a board: BOARD=pico2w, or with its line, PORT=/dev/ttyACM0
	$(BIN)/chipcash board flash $(BOARD) $(if $(PORT),--port $(PORT)) $(ARGS)

lint: setup ## ruff: style, likely mistakes, formatting
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: setup ## mypy, strict
	$(BIN)/mypy

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

lock: setup ## write requirements.lock anew from pyproject.toml, and the image's from it
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --generate-hashes \
		--no-emit-index-url --no-header --quiet --upgrade -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml deploy/requirements.in --extra postgres -c requirements.lock --universal \
		--generate-hashes --no-emit-index-url --no-header --quiet -o deploy/requirements.lock

clean: ## remove everything that was made, except .venv
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
