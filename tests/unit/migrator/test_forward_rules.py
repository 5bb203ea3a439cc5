"""What .forward, vacation and procmail files become: whole as rules, or named for a person."""

from __future__ import annotations

import pytest

from migrator.execute import Programs
from migrator.forward_rules import Home, convert_home
from migrator.mail_rule import Words
from migrator.procmail_rules import Conversion, convert_procmailrc

MESSAGE = b"From: joe\nSubject: Away\nPrecedence: bulk\n\nI am away.\nUntil June.\n"


def home(
    forward: bytes | None, procmailrc: bytes | None = None, vacation: bytes | None = None, *, delivers: bool = False,
    execute: tuple[str, ...] = (),
) -> Conversion:  # fmt: skip
    own = {"joe", "joe@main.test"}
    programs = Programs.read(execute)
    return convert_home(
        Home("joe", forward, procmailrc, vacation, lambda text: text.lower() in own, "main.test", delivers, programs)
    )


def shown(found: Conversion) -> list[tuple[str, list[Words]]]:
    assert not found.problems
    return [(rule.name, list(rule.actions)) for rule in found.rules]


@pytest.mark.parametrize(
    ("forward", "actions"),
    [
        (b"x@far.test\n", [("Mirror to", "x@far.test"), ("Discard", "---")]),
        (b"\\joe, x@far.test\n", [("Mirror to", "x@far.test")]),
        (b"# mine\n\nx@far.test\njoe@main.test, y@far.test\n", [("Mirror to", "x@far.test,y@far.test")]),
        (b'"Joe There" <x@far.test>', [("Mirror to", "x@far.test"), ("Discard", "---")]),
        (b"/dev/null", [("Discard", "---")]),
    ],
)
def test_redirections(forward: bytes, actions: list[Words]) -> None:
    """The user's own name is what keeps mail."""
    ((_, found),) = shown(home(forward))
    assert found == actions


@pytest.mark.parametrize("forward", [None, b"", b"# nothing\n", b"\\joe\n", b"joe@main.test", b'"|/usr/bin/procmail"'])
def test_nothing_to_do(forward: bytes | None) -> None:
    """Mail stays where it is."""
    assert shown(home(forward)) == []


def test_names_without_a_domain_get_the_users_own() -> None:
    """In .forward and in recipes."""
    found = home(b"ann, |procmail", b":0 c\n! bob x@far.test\n")
    assert shown(found) == [
        ("procmail 1", [("Mirror to", "bob@main.test,x@far.test")]),
        ("#Redirect", [("Mirror to", "ann@main.test")]),
    ]


def test_vacation() -> None:
    """One reply to each sender; its own subject is kept, the rest of the header is not."""
    found = home(b'\\joe, "|/usr/bin/vacation -a joey joe"', vacation=MESSAGE)
    (rule,) = found.rules
    assert rule.name == "#Vacation"
    assert rule.actions[0] == ("Reply with", "+Subject: Away\n\nI am away.\nUntil June.\n")
    both = home(b'x@far.test, "|vacation joe"', vacation=b"Gone.\n")
    assert shown(both) == [
        ("#Vacation", [("Reply with", "Gone.\n"), ("Remember 'From' in", "RepliedAddresses")]),
        ("#Redirect", [("Mirror to", "x@far.test"), ("Discard", "---")]),
    ]
    alone = home(b'"|vacation joe"', vacation=MESSAGE)
    assert [rule.name for rule in alone.rules] == ["#Vacation", "Discard all"]


def test_procmail_called_by_forward() -> None:
    """The recipes of the file beside it, and what else .forward says."""
    rc = b":0:\n* ^Subject:.*list\nlists\n"
    for call in (
        b'"|/usr/bin/procmail"',
        b"\"|IFS=' ' && exec /usr/bin/procmail -f- || exit 75 #joe\"",
        b"|procmail -t",
    ):
        assert shown(home(call, rc)) == [("procmail 1", [("Store in", "lists"), ("Discard", "---")])]
    found = home(b"|procmail, x@far.test", rc)
    assert [(rule.priority, rule.name) for rule in found.rules] == [(9, "#Redirect"), (8, "procmail 1")]
    assert shown(home(None, rc, delivers=True)) == [("procmail 1", [("Store in", "lists"), ("Discard", "---")])]


RUN = ("/opt/bin/tidy=/usr/local/bin/tidy", "/bin/log")


@pytest.mark.parametrize(
    ("forward", "rules"),
    [
        (b"|/bin/log", [("Execute", [("Execute", "/bin/log"), ("Discard", "---")])]),
        (b'\\joe, "|/opt/bin/tidy -u joe"', [("Execute", [("Execute", "/usr/local/bin/tidy -u joe")])]),
        (
            b"|/bin/log, x@far.test",
            [
                ("Execute", [("Execute", "/bin/log")]),
                ("#Redirect", [("Mirror to", "x@far.test"), ("Discard", "---")]),
            ],
        ),
        (
            b"|/bin/log a\n|/bin/log b",
            [
                ("Execute 1", [("Execute", "/bin/log a")]),
                ("Execute 2", [("Execute", "/bin/log b"), ("Discard", "---")]),
            ],
        ),
    ],
)
def test_programs_that_were_allowed(forward: bytes, rules: list[tuple[str, list[Words]]]) -> None:
    """By the path that stands there, as the one at CommuniGate; what the old server kept is kept."""
    assert shown(home(forward, execute=RUN)) == rules


def test_recipes_that_give_mail_to_a_program() -> None:
    """A copy, or all of it; where procmail would keep what the program refuses, no rule says that."""
    rc = b":0 c\n* ^Subject:.*x\n| /bin/log -s\n:0\n| /opt/bin/tidy\n"
    found = home(b"|procmail", rc, execute=RUN)
    assert shown(found) == [
        ("procmail 1", [("Execute", "/bin/log -s")]),
        ("procmail 4", [("Execute", "/usr/local/bin/tidy"), ("Discard", "---")]),
    ]
    assert any("send the message back" in note for note in found.notes)
    for flags in (b"w", b"W"):
        (problem,) = home(b"|procmail", b":0 " + flags + b"\n| /bin/log\n", execute=RUN).problems
        assert "kept where it fails" in problem.reason


@pytest.mark.parametrize(
    ("forward", "decide"),
    [
        (
            b"|/bin/x -a",
            "--execute /bin/x (or /bin/x=PATH at CommuniGate) for the rule Execute /bin/x -a, Discard;",
        ),
        (b"\\joe, |/bin/log2", "for the rule Execute /bin/log2;"),
        (b"|log", "write the program's whole path"),
        (b"|log", "--execute PATH for the rule Execute log, Discard"),
        (b'"|/bin/log; rm -rf /"', "put it into a script"),
        (b'"|/bin/log $HOME"', "put it into a script"),
        (b'"|/bin/log `id`"', "put it into a script"),
        (b'"|/bin/log > /tmp/x"', "put it into a script"),
        (b'"|exec /bin/log"', "whole path"),
        (b'"|/bin/../bin/log"', "whole path"),
    ],
)
def test_programs_that_were_not_allowed(forward: bytes, decide: str) -> None:
    """Nothing runs that was not named, and no shell reads what a user wrote; the rule is shown."""
    found = home(forward, execute=RUN)
    assert not found.rules
    (problem,) = found.problems
    assert decide in problem.decide


@pytest.mark.parametrize("option", ["", "log", "/bin/a b", "/bin/../x", "/a=b", "=", "/a=", "/bin/x;y", "/a=/[FILE]"])
def test_programs_named_wrongly(option: str) -> None:
    """Whole paths without a shell's marks, since CommuniGate runs what stands there."""
    with pytest.raises(ValueError, match="PROGRAM"):
        Programs.read([option])
    with pytest.raises(ValueError, match="twice"):
        Programs.read(["/a", "/a=/b"])


@pytest.mark.parametrize(
    ("forward", "procmailrc", "vacation", "reason"),
    [
        (b"a;b@far.test", None, None, "no address that is sure"),
        (b"|procmail", b":0 c\n! Joe\n", None, "the user's own address Joe@main.test"),
        (b"|/bin/x", None, None, "given to a program: /bin/x"),
        (b"~/mail, /home/joe/mail", None, None, "written to the file /home/joe/mail"),
        (b":include:/home/joe/friends", None, None, "the addresses of /home/joe/friends"),
        (b"x y", None, None, "no address"),
        (b"\xff", None, None, "not UTF-8"),
        (b'"|procmail -m /etc/rc"', b":0\nx\n", None, "called with arguments"),
        (b'"|vacation joe"', None, None, "no .vacation.msg"),
        (b'"|vacation joe"', None, b"\xff", "not UTF-8"),
        (b'"|vacation joe"', None, b"Subject: x\n\nabout $SUBJECT", "variables"),
        (b'"|vacation joe"', None, b"Subject: x\n\n", "no text"),
        (None, b":0\nx\n", None, "no .forward that calls procmail"),
    ],
)
def test_what_a_person_decides(forward: bytes, procmailrc: bytes, vacation: bytes, reason: str) -> None:
    """Each with a reason and what to do."""
    problems = home(forward, procmailrc, vacation).problems
    assert any(reason in problem.reason for problem in problems)
    assert all(problem.decide for problem in problems)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("^Subject:.*a b", ("Subject", "is", "*a b*")),
        ("^Subject: *a", ("Subject", "is", "a*")),
        ("^Subject: a.*b$", ("Subject", "is", "a*b")),
        ("! ^Subject:.*(a|b)", ("Subject", "not in", "*a*,*b*")),
        ("^From:.*a@b\\.test", ("From", "is", "*a@b.test*")),
        ("^TO_a@b.test", ("Any To or Cc", "is", "a@b.test*")),
        ("^TOa@b.test", ("Any To or Cc", "is", "a@b.test*")),
        ("^(To|Cc):.*a@b.test", ("Any To or Cc", "is", "*a@b.test*")),
        ("^X-A: yes", ("Header Field", "is", "X-A: yes*")),
        ("^X-A:.*yes", ("Header Field", "is", "X-A:*yes*")),
        ("^X-A:", ("Header Field", "is", "X-A:*")),
        ("> 10", ("Message Size", "greater than", "10")),
        ("! < 10", ("Message Size", "greater than", "9")),
        ("! > 10", ("Message Size", "less than", "11")),
    ],
)
def test_conditions(condition: str, words: Words) -> None:
    """Those that mean the same."""
    found = convert_procmailrc(f":0\n* {condition}\nx\n".encode())
    assert not found.problems
    assert found.rules[0].conditions == (words,)


@pytest.mark.parametrize(
    "recipe",
    [
        ":0\n* ^Subject:.*a+\nx",
        ":0\n* ^Subject:.*[ab]\nx",
        ":0\n* ^Subject:.*a?b\nx",
        ":0\n* ^Subject:.*\\*\nx",
        ":0\n* ^Subject:.*a.b\\<c\nx",
        ":0\n* ^Subject:.*(a,b|c)\nx",
        ":0\n* ^Subject:.*((a)|c)\nx",
        ":0\n* ^Subject:.*(a|b)*\nx",
        ":0\n* ^From:.*joe\nx",
        ":0\n* ^From: a@b.test\nx",
        ":0\n* ^From:.*a@b.test$\nx",
        ":0\n* ^To:.*a@b.test\nx",
        ":0\n* a@b.test\nx",
        ":0\n* ^FROM_DAEMON\nx",
        ":0\n* ? test -f x\nx",
        ":0\n* 1^0 ^Subject: x\nx",
        ":0\n* X ?? y\nx",
        ":0\n* $ ^Subject: x\nx",
        ":0\n* ^Received:.*x\nx",
        ":0 B\n* x\nx",
        ":0 D\n* ^Subject: x\nx",
        ":0 A\nx",
        ":0 fw\n| formail -x",
        ":0\n| /bin/x",
        ":0\n{\n:0\nx\n}",
        ":0\n! $OTHER",
        ":0\n! `cat x`",
        ":0\n! -oi x@far.test",
        ":0\n/etc/x",
        ":0\n../x",
        ":0\na*b",
        ":0\nx y",
        ":0\n$UNKNOWN/x",
        "INCLUDERC=x",
        "HOST=x",
        "X=`date`",
        "DEFAULT=$HOME/other",
        ":0:",
        ":0\n* ^Subject: x",
        "what is this",
        ":0\n{\n",
        'X="open',
        "X=\xff",
        ":0\na\nMAILDIR=$HOME/x\n:0\nb",
        "\n".join([":0 c\nx"] * 10),
    ],
)
def test_recipes_that_are_no_rule(recipe: str) -> None:
    """None is half converted: each is a problem with its line."""
    found = convert_procmailrc(recipe.encode("latin-1"))
    assert found.problems
    assert all(problem.line and problem.decide for problem in found.problems)


@pytest.mark.parametrize(
    ("maildir", "action", "mailbox"),
    [
        ("", "lists", "lists"),
        ("", "Mail/lists", "lists"),
        ("$HOME/Mail", "lists/", "lists"),
        ("$HOME/Mail", "lists/.", "lists"),
        ("$HOME/Mail", "$MAILDIR/a/b", "a/b"),
        ("$HOME/Mail", "$HOME/Mail/a", "a"),
        ("$HOME/Maildir", ".Lists.python/", "Lists/python"),
        ("${HOME}/mail", "${HOME}/mail/x", "x"),
    ],
)
def test_mailboxes(maildir: str, action: str, mailbox: str) -> None:
    """mbox files, Maildirs and MH folders below the user's mail directory."""
    found = convert_procmailrc(f"MAILDIR={maildir}\n:0\n{action}\n".encode() if maildir else f":0\n{action}\n".encode())
    assert not found.problems
    assert found.mailboxes == [mailbox]
