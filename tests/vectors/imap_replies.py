"""IMAP replies as servers send them, and what they mean; used whole and in every way of cutting."""

from __future__ import annotations

from wire.imap.parser import Continuation, Response, Status, Untagged

# name -> (bytes on the wire, the one response they are)
RESPONSES: dict[str, tuple[bytes, Response]] = {
    "dovecot greeting": (
        b"* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN] Dovecot (Debian) ready.\r\n",
        Status(b"", b"OK", "CAPABILITY", b"IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN", b"Dovecot (Debian) ready."),
    ),
    "courier greeting has no text of its own": (
        b"* OK [CAPABILITY IMAP4rev1 UIDPLUS] Courier-IMAP ready. See COPYING for distribution information.\r\n",
        Status(
            b"",
            b"OK",
            "CAPABILITY",
            b"IMAP4rev1 UIDPLUS",
            b"Courier-IMAP ready. See COPYING for distribution information.",
        ),
    ),
    "exchange greeting": (
        b"* OK The Microsoft Exchange IMAP4 service is ready.\r\n",
        Status(b"", b"OK", "", b"", b"The Microsoft Exchange IMAP4 service is ready."),
    ),
    "gmail greeting": (
        b"* OK Gimap ready for requests from 192.0.2.1 f12mb45678\r\n",
        Status(b"", b"OK", "", b"", b"Gimap ready for requests from 192.0.2.1 f12mb45678"),
    ),
    "preauth": (b"* PREAUTH localhost ready\r\n", Status(b"", b"PREAUTH", "", b"", b"localhost ready")),
    "bye": (
        b"* BYE [UNAVAILABLE] Too many connections\r\n",
        Status(b"", b"BYE", "UNAVAILABLE", b"", b"Too many connections"),
    ),
    "lower case": (b"a1 ok done\r\n", Status(b"a1", b"OK", "", b"", b"done")),
    "no text at all": (b"a1 NO\r\n", Status(b"a1", b"NO", "", b"", b"")),
    "a space and no text": (b"a1 NO \r\n", Status(b"a1", b"NO", "", b"", b"")),
    "a code and no text": (b"a1 OK [READ-ONLY]\r\n", Status(b"a1", b"OK", "READ-ONLY", b"", b"")),
    "bare LF": (b"a1 OK done\n", Status(b"a1", b"OK", "", b"", b"done")),
    "a text that ends like a literal": (
        b"* OK see {12}\r\n",
        Status(b"", b"OK", "", b"", b"see {12}"),
    ),
    "a refusal that ends like a literal": (b"a1 NO no {3}\r\n", Status(b"a1", b"NO", "", b"", b"no {3}")),
    "permanent flags": (
        b"* OK [PERMANENTFLAGS (\\Answered \\Seen $Forwarded \\*)] Flags permitted.\r\n",
        Status(b"", b"OK", "PERMANENTFLAGS", b"(\\Answered \\Seen $Forwarded \\*)", b"Flags permitted."),
    ),
    "a bracket inside a quoted code argument": (
        b'* OK [X-HINT "a]b" c] text\r\n',
        Status(b"", b"OK", "X-HINT", b'"a]b" c', b"text"),
    ),
    "an untagged code that is not closed is text": (
        b"* OK [hello there\r\n",
        Status(b"", b"OK", "", b"", b"[hello there"),
    ),
    "appenduid": (
        b"a7 OK [APPENDUID 1700000000 42] Append completed.\r\n",
        Status(b"a7", b"OK", "APPENDUID", b"1700000000 42", b"Append completed."),
    ),
    "continuation": (b"+ OK\r\n", Continuation(b"OK")),
    "continuation without text": (b"+ \r\n", Continuation(b"")),
    "continuation without even a space": (b"+\r\n", Continuation(b"")),
    "capability": (
        b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
        Untagged(b"CAPABILITY", None, [b"IMAP4rev1", b"AUTH=PLAIN"]),
    ),
    "exists": (b"* 23 EXISTS\r\n", Untagged(b"EXISTS", 23, [])),
    "expunge in lower case": (b"* 7 expunge\r\n", Untagged(b"EXPUNGE", 7, [])),
    "search": (b"* SEARCH 2 3 6\r\n", Untagged(b"SEARCH", None, [b"2", b"3", b"6"])),
    "search that found nothing": (b"* SEARCH\r\n", Untagged(b"SEARCH", None, [])),
    "search with a space at the end": (b"* SEARCH 2 \r\n", Untagged(b"SEARCH", None, [b"2"])),
    "esearch": (
        b'* ESEARCH (TAG "a3") UID ALL 1:3,7\r\n',
        Untagged(b"ESEARCH", None, [[b"TAG", b"a3"], b"UID", b"ALL", b"1:3,7"]),
    ),
    "list": (
        b'* LIST (\\HasNoChildren \\Trash) "/" "Deleted Items"\r\n',
        Untagged(b"LIST", None, [[b"\\HasNoChildren", b"\\Trash"], b"/", b"Deleted Items"]),
    ),
    "list, backslash as separator": (
        b'* LIST () "\\\\" "a\\\\b\\"c"\r\n',
        Untagged(b"LIST", None, [[], b"\\", b'a\\b"c']),
    ),
    "list, no separator": (
        b"* LIST (\\NoSelect) NIL #news\r\n",
        Untagged(b"LIST", None, [[b"\\NoSelect"], None, b"#news"]),
    ),
    "list, name as a literal": (
        b'* LIST () "." {7}\r\na"b\r\nc\\\r\n',
        Untagged(b"LIST", None, [[], b".", b'a"b\r\nc\\']),
    ),
    "list, gmail's brackets unquoted": (
        b'* LIST (\\HasChildren \\Noselect) "/" [Gmail]\r\n',
        Untagged(b"LIST", None, [[b"\\HasChildren", b"\\Noselect"], b"/", b"[Gmail]"]),
    ),
    "list, raw 8-bit": (b'* LIST () "." B\xfcro\r\n', Untagged(b"LIST", None, [[], b".", b"B\xfcro"])),
    "list with extended data": (
        b'* LIST () "/" foo ("CHILDINFO" ("SUBSCRIBED"))\r\n',
        Untagged(b"LIST", None, [[], b"/", b"foo", [b"CHILDINFO", [b"SUBSCRIBED"]]]),
    ),
    "namespace": (
        b'* NAMESPACE (("INBOX." ".")) NIL (("#shared." ".")("shared." "."))\r\n',
        Untagged(b"NAMESPACE", None, [[[b"INBOX.", b"."]], None, [[b"#shared.", b"."], [b"shared.", b"."]]]),
    ),
    "status": (
        b'* STATUS "a b" (MESSAGES 231 UIDNEXT 44292)\r\n',
        Untagged(b"STATUS", None, [b"a b", [b"MESSAGES", b"231", b"UIDNEXT", b"44292"]]),
    ),
    "fetch": (
        b'* 12 FETCH (FLAGS (\\Seen $Junk) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 4286 UID 9)\r\n',
        Untagged(
            b"FETCH",
            12,
            [
                [
                    b"FLAGS",
                    [b"\\Seen", b"$Junk"],
                    b"INTERNALDATE",
                    b"17-Jul-1996 02:44:25 -0700",
                    b"RFC822.SIZE",
                    b"4286",
                    b"UID",
                    b"9",
                ]
            ],
        ),
    ),
    "fetch of a body, uid behind it": (
        b"* 1 FETCH (BODY[] {10}\r\n)\r\n a1 OK\r UID 7)\r\n",
        Untagged(b"FETCH", 1, [[b"BODY[]", b")\r\n a1 OK\r", b"UID", b"7"]]),
    ),
    "fetch of an empty body": (
        b"* 1 FETCH (UID 7 BODY[] {0}\r\n)\r\n",
        Untagged(b"FETCH", 1, [[b"UID", b"7", b"BODY[]", b""]]),
    ),
    "fetch of a body as a quoted string": (
        b'* 1 FETCH (UID 7 BODY[] "a\\"b")\r\n',
        Untagged(b"FETCH", 1, [[b"UID", b"7", b"BODY[]", b'a"b']]),
    ),
    "fetch of a body that is NIL": (
        b"* 1 FETCH (UID 7 BODY[] NIL)\r\n",
        Untagged(b"FETCH", 1, [[b"UID", b"7", b"BODY[]", None]]),
    ),
    "fetch of header fields": (
        b'* 1 FETCH (UID 7 BODY[HEADER.FIELDS (DATE "MESSAGE-ID")] {2}\r\n\r\n)\r\n',
        Untagged(b"FETCH", 1, [[b"UID", b"7", b'BODY[HEADER.FIELDS (DATE "MESSAGE-ID")]', b"\r\n"]]),
    ),
    "fetch of a part from an offset": (
        b"* 1 FETCH (BODY[1.TEXT]<10> {1}\r\nx)\r\n",
        Untagged(b"FETCH", 1, [[b"BODY[1.TEXT]<10>", b"x"]]),
    ),
    "fetch of binary": (
        b"* 1 FETCH (UID 7 BINARY[] ~{3}\r\na\0b)\r\n",
        Untagged(b"FETCH", 1, [[b"UID", b"7", b"BINARY[]", b"a\0b"]]),
    ),
    "fetch with a literal marked non-synchronizing": (
        b"* 1 FETCH (BODY[] {1+}\r\nx)\r\n",
        Untagged(b"FETCH", 1, [[b"BODY[]", b"x"]]),
    ),
    "fetch without its space": (b"* 1 FETCH(UID 7)\r\n", Untagged(b"FETCH", 1, [[b"UID", b"7"]])),
    "two literals in one response": (
        b"* 1 FETCH (BODY[HEADER] {2}\r\nab BODY[TEXT] {2}\r\ncd)\r\n",
        Untagged(b"FETCH", 1, [[b"BODY[HEADER]", b"ab", b"BODY[TEXT]", b"cd"]]),
    ),
    "nested lists without spaces": (
        b'* 1 FETCH (ENVELOPE (NIL "s" (("A" NIL "a" "x")("B" NIL "b" "y"))))\r\n',
        Untagged(
            b"FETCH",
            1,
            [[b"ENVELOPE", [None, b"s", [[b"A", None, b"a", b"x"], [b"B", None, b"b", b"y"]]]]],
        ),
    ),
    "flags with odd keywords": (
        b"* FLAGS (\\Answered NonJunk $MDNSent $label1 foo[bar)\r\n",
        Untagged(b"FLAGS", None, [[b"\\Answered", b"NonJunk", b"$MDNSent", b"$label1", b"foo[bar"]]),
    ),
    "id with NIL": (b"* ID NIL\r\n", Untagged(b"ID", None, [None])),
    "vanished": (b"* VANISHED (EARLIER) 41,43:116\r\n", Untagged(b"VANISHED", None, [[b"EARLIER"], b"41,43:116"])),
    "enabled, nothing": (b"* ENABLED\r\n", Untagged(b"ENABLED", None, [])),
    "a quoted string with a lone backslash": (
        b'* LIST () "/" "a\\b"\r\n',
        Untagged(b"LIST", None, [[], b"/", b"a\\b"]),
    ),
}

# name -> bytes that are no IMAP response
MALFORMED: dict[str, bytes] = {
    "nothing": b"\r\n",
    "a star alone": b"*\r\n",
    "a tag alone": b"a1\r\n",
    "a tag and a word": b"a1 OKAY done\r\n",
    "a tag glued to its status": b"a1OK done\r\n",
    "status glued to its code": b"a1 OK[READ-WRITE] done\r\n",
    "two spaces after the tag": b"a1  OK done\r\n",
    "a space first": b" a1 OK done\r\n",
    "a tagged BYE": b"a1 BYE done\r\n",
    "a tagged PREAUTH": b"a1 PREAUTH done\r\n",
    "a tagged code that is not closed": b"a1 NO [AUTHENTICATIONFAILED wrong\r\n",
    "a tagged code that is empty": b"a1 NO [] wrong\r\n",
    "a tagged code glued to its text": b"a1 OK [READ-ONLY]done\r\n",
    "NUL": b"a1 OK do\0ne\r\n",
    "a lone CR": b"a1 NO wr\rong\r\n",
    "SMTP": b"220 mail.example.com ESMTP\r\n",
    "POP": b"+OK POP3 ready\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n",
    "an open list": b"* LIST (\\Seen\r\n",
    "a list closed twice": b"* FLAGS (a))\r\n",
    "an open string": b'* LIST () "/" "abc\r\n',
    "a star glued": b"*OK hello\r\n",
    "a tagged reply with a literal": b"a1 FETCH {3}\r\nabc\r\n",
    "lists without end": b"* X " + b"(" * 100 + b")" * 100 + b"\r\n",
    "a number without end": b"* " + b"9" * 30 + b" EXISTS\r\n",
}
