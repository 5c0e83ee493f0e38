# The two commands of a newcomer: `make quickstart` and `make test`. Each stands alone: it makes
# .venv with the tested versions (constraints.txt), installs, and runs.
PYTHON ?= python3
# `make CONSTRAINTS= test` tries the newest releases that setup.cfg admits.
CONSTRAINTS ?= -c constraints.txt
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)

.PHONY: quickstart test test-long lint clean
quickstart: .venv/installed
	.venv/bin/python -m experiments.quickstart

test: .venv/installed-test lint
	.venv/bin/python -m pytest -n 2 -m "not long"

test-long: .venv/installed-test
	.venv/bin/python -m pytest -m long

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing vidembed into .venv (about a minute) ..."
	$(PIP) --editable .
	touch $@

.venv/installed-test: .venv/installed
	@echo "installing what the tests need ..."
	$(PIP) --editable ".[test]"
	.venv/bin/python -m pip check
	touch $@

clean:
	rm -rf .venv runs build *.egg-info
