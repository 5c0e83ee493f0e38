# The two commands of a newcomer: `make quickstart` and `make test`. Each stands alone: it makes
# .venv with the tested versions (constraints.txt), installs, and runs.
PYTHON ?= python3
# `make CONSTRAINTS= test` tries the newest releases that setup.cfg admits.
CONSTRAINTS ?= -c constraints.txt
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)

.PHONY: quickstart test test-long test-tpu lint clean
quickstart: .venv/installed
	.venv/bin/python -m experiments.quickstart

test: .venv/installed-test lint
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not long and not tpu"

# Compiled as users compile: what is to be equal bit for bit is tested so, too.
test-long: .venv/installed-long
	OPTIMISED=1 .venv/bin/python -m pytest -n 2 --dist loadfile -m "long or optimised"

# Compiles every recipe for a TPU slice; needs no TPU. In a .venv of its own: beside libtpu every run
# on a machine without a TPU would begin with its complaints.
test-tpu: .venv-tpu/installed
	OPTIMISED=1 .venv-tpu/bin/python -m pytest tests/engine/test_tpu.py

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

# The converter to ONNX brings two dozen packages: what a newcomer runs does without.
.venv/installed-long: .venv/installed-test
	@echo "installing what the long tests need ..."
	$(PIP) --editable ".[test,onnx]"
	.venv/bin/python -m pip check
	touch $@

.venv-tpu/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-tpu
	@echo "installing vidembed with the TPU compiler into .venv-tpu (about a minute) ..."
	.venv-tpu/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) \
		--editable ".[test,tpu]"
	touch $@

clean:
	rm -rf .venv .venv-tpu runs build *.egg-info
