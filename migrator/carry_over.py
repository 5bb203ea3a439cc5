"""One report of a copy that took several attempts: what an earlier one has done belongs to it. Pure."""

from __future__ import annotations

from migrator.report import Report


def carry_over(earlier: Report, now: Report) -> None:
    """What an earlier attempt of this run has copied was found as `already` by a later one: count it as copied."""
    before = {box.source: box for box in earlier.mailboxes}
    for box in now.mailboxes:
        if (old := before.pop(box.source, None)) is None:
            continue
        if box.messages and old.messages:
            gained = max(box.already - old.already, 0)
            box.copied, box.already = box.copied + gained, box.already - gained
        elif old.messages:  # this attempt did not get as far
            box.messages, box.left, box.copied, box.already = old.messages, old.left, old.copied, old.already
            box.refused, box.vanished, box.left_out = old.refused, old.vanished, old.left_out
        box.too_large = box.too_large or old.too_large
        box.octets += old.octets
        box.repaired = old.repaired + box.repaired
        box.deleted += old.deleted
        box.doubled += old.doubled
        box.missing += old.missing
        box.flagged += old.flagged
        for text in old.notes:
            box.note(text)
    now.mailboxes += before.values()
    now.subscribed += earlier.subscribed
