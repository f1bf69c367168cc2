# make run                       set up, render sample smears, screen them, say where the reports are
# make run SLIDES=/path/archive  the same on your own images
# make test                      set up, check style and types, run the tests
# make test-slow                 the long tests
# make fuzz FUZZ_SECONDS=60      hostile inputs, so long for each target; deeper with atheris
# make audit-dependencies        known vulnerabilities of what is locked, as a report
# make wheelhouse                all dependencies as files, to install where there is no network

PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3.13 python3,\
            $(shell $(p) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,13))' 2>/dev/null && command -v $(p))))
VENV   ?= .venv
OUT    ?= reports
SLIDES ?=
PATIENT_ARGS ?=
# Processes that run tests, each about 2 GB.
TESTERS ?= 2
FUZZ_SECONDS ?= 60

BIN     := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV     := $(VENV)/.dev

.PHONY: run test test-slow fuzz lint lock audit-dependencies wheelhouse clean
.DELETE_ON_ERROR:

run: $(RUNTIME)
ifeq ($(SLIDES),)
	$(BIN)/screen samples samples
	$(BIN)/screen submit samples --out $(OUT)
else
	$(BIN)/screen submit "$(SLIDES)" --out $(OUT) $(PATIENT_ARGS)
endif

test: $(DEV) lint
	$(BIN)/python -m pytest -m "not slow" -n $(TESTERS) --dist loadfile

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

fuzz: $(DEV)
	$(BIN)/python -m tests.fuzz $(FUZZ_SECONDS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "screen needs Python 3.11, 3.12 or 3.13; none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Every dependency is locked with its hashes; the project itself is installed without resolving anew.
$(RUNTIME): $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(DEV): $(RUNTIME) requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

# Needs uv; run it after changing the dependencies in pyproject.toml.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" --extra dev pyproject.toml -o requirements-dev.lock

# A report that fails nothing. pip-audit comes and goes with an environment of its own; needs a network.
AUDIT := build/audit
audit-dependencies: $(VENV)/bin/python
	@$(BIN)/python -m venv $(AUDIT)
	@-$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9,<3"
	@$(BIN)/python infra/audit_dependencies.py $(AUDIT)/bin/pip-audit

# For this kind of machine and this Python, with the hashes of the lock file.
wheelhouse: $(VENV)/bin/python
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes -r requirements.lock -d wheelhouse

clean:
	rm -rf $(VENV) build *.egg-info samples reports wheelhouse
