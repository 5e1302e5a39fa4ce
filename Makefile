# Everything a newcomer needs: `make demo` and `make test` install what they lack.
# Both work in .venv of this checkout; Debian 12 with python3 is enough to start from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CACHE ?= /var/cache/ringfence
export RINGFENCE_CACHE := $(CACHE)

.PHONY: dev demo test lint bench clean system

$(BIN)/ringfence: pyproject.toml
	sh tools/install.sh venv "$(PYTHON)" "$(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

dev: $(BIN)/ringfence

system:
	sh tools/install.sh services

demo: $(BIN)/ringfence
	sh tools/install.sh demo
	$(BIN)/python tools/demo.py

lint: $(BIN)/ringfence
	$(BIN)/ruff format --check src tests bench tools
	$(BIN)/ruff check src tests bench tools
	$(BIN)/mypy

test: $(BIN)/ringfence system lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope

bench: $(BIN)/ringfence system
	$(BIN)/python -m bench.start
	$(BIN)/python -m bench.live
	$(BIN)/python -m bench.seccomp_stop
	$(BIN)/python -m bench.image
	$(BIN)/python -m bench.scale
	$(BIN)/python -m bench.harden
	sh tools/install.sh bench
	$(BIN)/python -m bench.fence
	$(BIN)/python -m bench.probe
	$(BIN)/python -m bench.guest
	$(BIN)/python -m bench.ledger
	$(BIN)/python -m bench.copying
	$(BIN)/python -m bench.watch
	$(BIN)/python -m bench.watch_live
	$(BIN)/python -m bench.watch_kill

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo
