# make demo    a whole migration on simulated servers; nothing but Python 3.11 is needed
# make test    everything that must hold: style, types, tests (as root: it starts real mail servers)
# make check   style and types only
# make soak    100,000 messages, 10,000 mailboxes, a message of 200 MB, a million requests, 200 schedules of faults: long
# make bench   logins and copies measured on real servers, beside what others use

BIN := .venv/bin

.PHONY: demo test check style types tests bench soak packages clean

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
	$(BIN)/pytest -q -n auto --maxprocesses 4 --dist worksteal

bench: .venv/.dev packages
	@./.ci/packages isync fetchmail mpop msmtp || true
	$(BIN)/python -m tests.bench.login
	$(BIN)/python -m tests.bench.login --guards
	$(BIN)/python -m tests.bench.copy --floor
	$(BIN)/python -m tests.bench.pop

soak: .venv/.dev packages
	$(BIN)/python -m tests.bench.soak
	EXTAUTH_REQUESTS=1000000 $(BIN)/pytest -q -s -n 0 tests/fault/test_helper_predecessor.py -k memory_does_not_grow
	EXTAUTH_SCHEDULES=50 $(BIN)/pytest -q -n 2 tests/fault/test_schedules.py

packages:
	@./.ci/packages dovecot-imapd dovecot-pop3d postfix procmail whois slapd slapd-contrib \
	    libcourier-unicode4 libgdbm6 libglib2.0-0 libical3 libidn12 libltdl7 libpcre3 libwrap0 libxapian30
	@./.ci/unpacked cyrus-imapd cyrus-common courier-imap courier-authlib gamin libgamin0

.venv/pyvenv.cfg:
	./.ci/python -m venv .venv

.venv/.run: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.run

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .hypothesis
