"""Sealed passwords: only the key file opens them, only for their own account, and the key file is only its owner's."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path

import nacl.public
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.seal import Opener, Sealer, generate_keys
from wire.outcome import SetupTrouble
from wire.secret import Secret

PAIR, NONCE = (
    32,
    24,
)  # bytes of a box: the public key of the pair it was made with, and what no other box of that pair has


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    public, private = tmp_path / "seal.pub", tmp_path / "seal.key"
    generate_keys(public, private)
    return public, private


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sealer, Opener]:
    directory = tmp_path_factory.mktemp("keys")
    generate_keys(directory / "seal.pub", directory / "seal.key")
    return Sealer(directory / "seal.pub"), Opener(directory / "seal.key")


@given(password=st.binary(max_size=300), address=st.text(min_size=1, max_size=60))
def test_every_password_comes_out_as_it_went_in(pair: tuple[Sealer, Opener], password: bytes, address: str) -> None:
    sealer, opener = pair
    assert opener.open(sealer.seal(Secret(password), address), address) == Secret(password)


def test_the_case_of_the_address_does_not_matter(pair: tuple[Sealer, Opener]) -> None:
    sealer, opener = pair
    assert opener.open(sealer.seal(Secret(b"x"), "Ann@Example.com"), "ann@example.COM") == Secret(b"x")


def test_a_box_moved_to_another_account_does_not_open(pair: tuple[Sealer, Opener]) -> None:
    sealer, opener = pair
    box = sealer.seal(Secret(b"secret"), "ann@example.com")
    with pytest.raises(SetupTrouble, match="another account"):
        opener.open(box, "bob@example.com")
    with pytest.raises(SetupTrouble, match="another account"):
        opener.open(box, "ann@example.co")


def test_equal_passwords_are_different_boxes_and_lengths_do_not_tell(pair: tuple[Sealer, Opener]) -> None:
    sealer, _ = pair
    boxes = [sealer.seal(Secret(password), "a@b.c") for password in (b"same", b"same", b"longer password")]
    assert len(set(boxes)) == 3
    assert len({len(box) for box in boxes}) == 1
    assert not any(b"same" in box for box in boxes)


def test_the_boxes_of_a_moment_share_a_pair_and_then_it_is_dropped(keys: tuple[Path, Path]) -> None:
    later: list[tuple[float, Callable[[], None]]] = []
    sealer, opener = Sealer(keys[0], later=lambda *call: later.append(call)), Opener(keys[1])
    boxes = [sealer.seal(Secret(b"same"), "a@b.c") for _ in range(3)]
    ((seconds, drop),) = later
    assert seconds <= 0.1
    drop()
    boxes.append(sealer.seal(Secret(b"same"), "a@b.c"))
    assert len({box[:PAIR] for box in boxes}) == 2
    assert len({box[: PAIR + NONCE] for box in boxes}) == 4
    assert len({box[PAIR + NONCE :] for box in boxes}) == 4
    assert {opener.open(box, "a@b.c").reveal() for box in boxes} == {b"same"}


def test_without_a_clock_each_box_has_a_pair_of_its_own(pair: tuple[Sealer, Opener]) -> None:
    assert len({pair[0].seal(Secret(b"same"), "a@b.c")[:PAIR] for _ in range(3)}) == 3


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b"", lambda b: b"\0" + b[1:], lambda b: bytes(32) + b[32:], lambda b: b + b"x"],
)
def test_a_damaged_box_is_a_set_up_fault(pair: tuple[Sealer, Opener], damage: Callable[[bytes], bytes]) -> None:
    sealer, opener = pair
    with pytest.raises(SetupTrouble, match="does not open"):
        opener.open(damage(sealer.seal(Secret(b"x"), "a@b.c")), "a@b.c")


def test_another_key_does_not_open_it(tmp_path: Path, pair: tuple[Sealer, Opener]) -> None:
    generate_keys(tmp_path / "seal.pub", tmp_path / "seal.key")
    with pytest.raises(SetupTrouble, match="does not open"):
        Opener(tmp_path / "seal.key").open(pair[0].seal(Secret(b"x"), "a@b.c"), "a@b.c")


def test_key_files_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            generate_keys(tmp_path / f"{umask}.pub", tmp_path / f"{umask}.key")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{umask}.pub").stat().st_mode) == 0o644
        assert stat.S_IMODE((tmp_path / f"{umask}.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("left", ["seal.pub", "seal.key"])
def test_keys_are_never_overwritten(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_bytes(b"precious")
    with pytest.raises(SetupTrouble, match=f"{left} exists"):
        generate_keys(tmp_path / "seal.pub", tmp_path / "seal.key")
    assert [path.name for path in tmp_path.iterdir()] == [left]
    assert (tmp_path / left).read_bytes() == b"precious"


def test_forcing_another_pair_keeps_the_old_key_beside_it(keys: tuple[Path, Path]) -> None:
    public, private = keys
    box = Sealer(public).seal(Secret(b"old"), "a@b.c")
    generate_keys(public, private, force=True)
    assert Opener(private).open(box, "a@b.c") == Secret(b"old")
    assert not Opener(private).is_new(box)
    assert Opener(private.with_name("seal.key.old")).open(box, "a@b.c") == Secret(b"old")


def test_a_link_is_not_followed_into_another_file(tmp_path: Path) -> None:
    (tmp_path / "seal.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupTrouble, match="exists"):
        generate_keys(tmp_path / "seal.pub", tmp_path / "seal.key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666])
def test_a_key_file_open_to_others_is_refused(keys: tuple[Path, Path], mode: int) -> None:
    keys[1].chmod(mode)
    with pytest.raises(SetupTrouble, match="chmod 600"):
        Opener(keys[1])


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe", b"extauth-seal-public-1 AAAA\n", b"extauth-seal-public-1 !\n"]
)
def test_a_broken_public_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seal.pub").write_bytes(content)
    with pytest.raises(SetupTrouble, match=r"seal\.pub"):
        Sealer(tmp_path / "seal.pub")


def test_public_and_private_key_are_not_taken_for_each_other(keys: tuple[Path, Path]) -> None:
    public, private = keys
    public.chmod(0o600)
    with pytest.raises(SetupTrouble, match="no private key"):
        Opener(public)
    with pytest.raises(SetupTrouble, match="no public key"):
        Sealer(private)


def test_a_missing_key_file_is_a_set_up_fault(tmp_path: Path) -> None:
    with pytest.raises(SetupTrouble, match="No such file"):
        Sealer(tmp_path / "seal.pub")


def test_a_box_that_an_earlier_version_sealed_opens(keys: tuple[Path, Path]) -> None:
    """libsodium's sealed box, as the ledgers of a migration under way hold them."""
    word = Path(keys[0]).read_text().split()[-1]
    inside = b"1" + len(b"a@b.c").to_bytes(2, "big") + b"a@b.c" + (4).to_bytes(4, "big") + b"same"
    inside += bytes(-len(inside) % 64)
    old = nacl.public.SealedBox(nacl.public.PublicKey(base64.b64decode(word))).encrypt(inside)
    assert Opener(keys[1]).open(bytes(old), "a@b.c").reveal() == b"same"
