"""COMPRESS on a scripted server: agreed to, refused, and what comes right behind the agreement."""

from __future__ import annotations

import zlib

import pytest

from tests.fault.imap_script import Step, logged_in
from wire.outcome import ProtocolTrouble, Temporary

OFFERED = b"IMAP4rev1 COMPRESS=DEFLATE"


def packed(*parts: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return b"".join(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts)


async def test_compressed_bytes_behind_the_agreement() -> None:
    """In one segment with it: they are unpacked, not read as lines."""
    steps = [Step(b"COMPRESS DEFLATE\r\n", b"TAG OK now\r\n" + packed(b"* 5 EXISTS\r\n", b"* 6 EXISTS\r\n"))]
    async with logged_in(OFFERED, *steps) as (client, _):
        assert await client.compress()
        assert [await client.stream.read_line() for _ in range(2)] == [b"* 5 EXISTS", b"* 6 EXISTS"]


@pytest.mark.parametrize("refusal", [b"NO [COMPRESSIONACTIVE] already by TLS", b"NO", b"BAD what"])
async def test_refused(refusal: bytes) -> None:
    """The dialogue goes on in the clear."""
    steps = [Step(b"COMPRESS DEFLATE\r\n", b"TAG " + refusal + b"\r\n"), Step(b"NOOP\r\n", b"TAG OK\r\n")]
    async with logged_in(OFFERED, *steps) as (client, script):
        assert not await client.compress()
        assert not client.stream.compressed
        await client.noop()
    assert len(script.lines) == 3


async def test_not_offered() -> None:
    """Nothing is asked."""
    async with logged_in(b"IMAP4rev1", Step(b"NOOP\r\n", b"TAG OK\r\n")) as (client, _):
        assert not await client.compress()
        await client.noop()


async def test_agreed_to_and_then_in_the_clear() -> None:
    """A middle box that passes COMPRESS on and does not understand it: no answer is made of what it says."""
    async with logged_in(OFFERED, Step(b"COMPRESS", b"TAG OK\r\n* OK still here\r\n")) as (client, _):
        assert await client.compress()
        with pytest.raises(ProtocolTrouble, match="damaged"):
            await client.noop()


async def test_bye_instead() -> None:
    async with logged_in(OFFERED, Step(b"COMPRESS", b"* BYE [UNAVAILABLE] later\r\n")) as (client, _):
        with pytest.raises(Temporary, match="later"):
            await client.compress()
