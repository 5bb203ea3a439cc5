"""Servers, certificates and messages that many tests share. A server that is not installed fails the run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers.certificates import Certificates, make_certificates
from tests.servers.corpus import Message, read_corpus
from tests.servers.dovecot import Dovecot
from tests.servers.passwords import ODD
from tests.servers.postfix import Postfix
from tests.servers.process import server_directory

settings.register_profile("untimed", deadline=None)  # a busy machine is slow, and nothing here is timed
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA and server certificates for `localhost` and 127.0.0.1: good, expired, for a wrong host."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def corpus() -> list[Message]:
    """Odd messages: generated ones, and real ones where a collection is at hand."""
    return read_corpus()


@pytest.fixture
def tmp_short() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets, which other users may enter."""
    path = server_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def dovecot(certificates: Certificates) -> Iterator[Dovecot]:
    """One Dovecot for the whole run, with the users of ODD; a test that changes mail uses a name no other test uses."""
    with Dovecot(ODD, certificate=certificates.good, tuned=True) as server:
        yield server


@pytest.fixture(scope="session")
def postfix(certificates: Certificates) -> Iterator[Postfix]:
    """One Postfix for the whole run: knows known@old.test, postmaster@old.test; everything@all.test is accepted."""
    users = ["known@old.test", "postmaster@old.test", "@all.test"]
    with Postfix(users, aliases={"alias@old.test": "known@old.test"}, certificate=certificates.good) as server:
        yield server
