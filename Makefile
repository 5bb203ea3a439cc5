# make demo    a whole migration on simulated servers; nothing but Python 3.11 is needed
# make test    everything that must hold: style, types, tests (as root: it starts real mail servers)
# make check   style and types only
# make bench   the login path measured against real servers

PYTHON := $(shell for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
JOBS ?= 2

.PHONY: demo test check style types tests bench packages clean

demo: .venv/.run
	@$(BIN)/extauth demo

test: check
	@$(MAKE) --no-print-directory tests

check: style types

style: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: .venv/.dev
	$(BIN)/mypy

tests: .venv/.dev packages
	$(BIN)/pytest -q

bench: .venv/.dev packages
	$(BIN)/python -m tests.bench.login

packages:
	@./.ci/packages dovecot-imapd dovecot-pop3d postfix

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "extauth needs Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ./.ci/packages python3-venv
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.run

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .hypothesis
