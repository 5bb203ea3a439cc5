"""Any cut through any batch, whatever the target changes and others deliver: nothing is lost, nothing doubled."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from migrator.content import ContentDigest
from migrator.intents import Description, match_messages, plausible

_CONTENTS = [b"a", b"bb", b"ccc", b"Message-ID: <1@x>\n\nd", b"Message-ID: <1@x>\n\ne"]
_SOURCES = st.lists(st.tuples(st.sampled_from(_CONTENTS), st.integers(1, 3)), max_size=12)


def _describe(uid: int, content: bytes, moment: int) -> Description:
    digest = ContentDigest()
    digest.feed(content)
    return Description(uid, moment, 100 * len(content), digest.digest(), b"<1@x>" if b"<1@x>" in content else b"")


@given(_SOURCES, st.data())
def test_what_arrived_is_found_and_nothing_else(messages: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """A prefix was stored but for what was refused; the target may have changed dates and line ends."""
    sources = [_describe(uid, content, moment) for uid, (content, moment) in enumerate(messages, 1)]
    stored = sources[: data.draw(st.integers(0, len(sources)))]
    refused = data.draw(st.sets(st.sampled_from(stored))) if stored else set()
    targets: list[Description] = []
    for source in stored:
        if source in refused:
            continue
        for _ in range(data.draw(st.integers(0, 1))):
            foreign = b"foreign %d" % len(targets)
            targets.append(_describe(500 + len(targets), foreign, data.draw(st.integers(10, 12))))
        change = data.draw(st.sampled_from(["nothing", "date", "size"]))
        changed = replace(source, uid=500 + len(targets))
        if change == "date":
            changed = replace(changed, moment=99)
        elif change == "size":
            changed = replace(changed, size=source.size + 1)
        targets.append(changed)
    arrived = Counter(source.digest for source in stored if source not in refused)

    found = match_messages(sources, targets)
    assert len(set(found.values())) == len(found), "a target message was given twice"
    by_uid = {target.uid: target for target in targets}
    assert all(by_uid[target].digest == sources[uid - 1].digest for uid, target in found.items())
    assert Counter(sources[uid - 1].digest for uid in found) == arrived
    assert all(plausible(sources[uid - 1], by_uid[target]) for uid, target in found.items())


@given(_SOURCES, st.randoms())
def test_the_order_of_asking_does_not_matter(messages: list[tuple[bytes, int]], draw: object) -> None:
    sources = [_describe(uid, content, moment) for uid, (content, moment) in enumerate(messages, 1)]
    targets = [replace(source, uid=100 + source.uid) for source in sources]
    shuffled = list(targets)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert (
        match_messages(sources, shuffled)
        == match_messages(sources, targets)
        == {source.uid: 100 + source.uid for source in sources}
    )


_PIECES = [
    b"\n", b"\r\n", b"\n\n", b"Subject: a\n", b"Status: RO\n", b"x-keywords : b\r\n", b" folded\n", b" Status\n",
    b"X-UID: 7", b"X-Uidless: 1\n", b"\0", b"body", b":\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_a_message_is_known_however_it_came(pieces: list[bytes]) -> None:
    """All at once, and byte by byte: one digest, one header, the same lines left out."""
    whole, apart = ContentDigest(), ContentDigest()
    whole.feed(b"".join(pieces))
    for octet in b"".join(pieces):
        apart.feed(bytes([octet]))
    assert (whole.digest(), whole.header, whole.left_out) == (apart.digest(), apart.header, apart.left_out)
