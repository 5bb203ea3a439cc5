"""What servers say when they will not: sentences seen in the field, and whom or what each is about.

`throttled` is true of everything asked of the server for a while (with the seconds it asks for), `temporary` goes well
another time, `message` and `mailbox` concern that one alone, `permanent` waits for a person.
"""

from __future__ import annotations

# name -> (command, the tagged reply without its tag, what it means, seconds that the server asks for)
REFUSALS: dict[str, tuple[str, bytes, str, float]] = {
    # Microsoft 365 and Exchange
    "exchange throttles an APPEND": (
        "APPEND",
        b"NO Request is throttled. Suggested Backoff Time: 299609 milliseconds",
        "throttled",
        299.609,
    ),
    "exchange throttles with BAD": (
        "FETCH",
        b"BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds",
        "throttled",
        89.117,
    ),
    "exchange throttles a SELECT": ("SELECT", b"NO Request is throttled.", "throttled", 0.0),
    "exchange has lost its store": ("SELECT", b"BAD User is authenticated but not connected.", "temporary", 0.0),
    "exchange is down": ("SELECT", b"NO Server Unavailable. 15", "temporary", 0.0),
    "exchange refuses a message": ("APPEND", b"BAD Command Argument Error. 11", "message", 0.0),
    "exchange counts a literal as a line": ("APPEND", b"BAD command line limit exceeded", "message", 0.0),
    # Gmail
    "gmail's bandwidth at the source": (
        "FETCH",
        b"NO [OVERQUOTA] Account exceeded command or bandwidth limits. q12mb345",
        "throttled",
        0.0,
    ),
    "gmail's bandwidth as an alert": (
        "SELECT",
        b"NO [ALERT] Account exceeded command or bandwidth limits. (Failure)",
        "throttled",
        0.0,
    ),
    "gmail's connections": ("SELECT", b"NO [ALERT] Too many simultaneous connections. (Failure)", "throttled", 0.0),
    "gmail's system error": ("APPEND", b"NO System Error (Failure)", "temporary", 0.0),
    # Yahoo
    "yahoo's rate": ("FETCH", b"NO [LIMIT] UID FETCH Rate limit hit.", "throttled", 0.0),
    "yahoo cannot read": (
        "FETCH",
        b"NO [UNAVAILABLE] UID FETCH Server error while fetching messages",
        "temporary",
        0.0,
    ),
    "yahoo cannot read, without a code": (
        "FETCH",
        b"NO UID FETCH Server error - Please try again later",
        "temporary",
        0.0,
    ),
    "yahoo takes a literal for arguments": (
        "APPEND",
        b"BAD [CLIENTBUG] Additional arguments found after last expected argument",
        "message",
        0.0,
    ),
    # Dovecot
    "dovecot's largest message": (
        "APPEND",
        b"NO [LIMIT] Mail size is larger than the maximum size allowed by server configuration (0.003 + 0.002 secs).",
        "message",
        0.0,
    ),
    "dovecot's quota": (
        "APPEND",
        b"NO [OVERQUOTA] Quota exceeded (mailbox for user is full) (0.001 + 0.000 secs).",
        "temporary",
        0.0,
    ),
    "dovecot's empty message": (
        "APPEND",
        b"NO Can't save a zero byte message (0.001 + 0.000 secs).",
        "message",
        0.0,
    ),
    "dovecot's keyword": ("APPEND", b"NO [CANNOT] Invalid characters in keyword (0.001 secs).", "message", 0.0),
    "dovecot's connections": (
        "SELECT",
        b"NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
        "throttled",
        0.0,
    ),
    "dovecot's lock": (
        "APPEND",
        b"NO [INUSE] Timeout while waiting for lock for transaction log file (30.001 secs).",
        "temporary",
        0.0,
    ),
    "dovecot's fault": (
        "APPEND",
        b"NO [SERVERBUG] Internal error occurred. Refer to server log for more information. [2017-12-15 11:39:12]",
        "temporary",
        0.0,
    ),
    "dovecot's missing mailbox": ("APPEND", b"NO [TRYCREATE] Mailbox doesn't exist: Later", "mailbox", 0.0),
    # Cyrus and those built on it
    "cyrus, a header": ("APPEND", b"NO Message contains invalid header", "message", 0.0),
    "cyrus, NUL": ("APPEND", b"NO Message contains NUL characters", "message", 0.0),
    "cyrus, line ends": ("APPEND", b"NO Message contains bare newlines", "message", 0.0),
    "cyrus, size": ("APPEND", b"NO Message size exceeds fixed limit", "message", 0.0),
    "cyrus, quota": ("APPEND", b"NO [OVERQUOTA] Over quota", "temporary", 0.0),
    "cyrus before it had codes, quota": ("APPEND", b"NO Over quota", "temporary", 0.0),
    "fastmail's equal messages": ("APPEND", b"NO [LIMIT] Too many identical emails", "message", 0.0),
    # Others
    "maddy's largest message": ("APPEND", b"NO [TOOBIG] Message size exceeding limit", "message", 0.0),
    "a largest message, without a code": ("APPEND", b"BAD maximum message size exceeded", "message", 0.0),
    "gromox's largest literal": ("APPEND", b"BAD literal size too large", "message", 0.0),
    "groupwise's quota": ("APPEND", b"NO APPEND The 1500 MB storage limit has been exceeded.", "temporary", 0.0),
    "mailo": ("APPEND", b"NO Temporary unavailable", "temporary", 0.0),
    "a full disk": ("APPEND", b"NO Message could not be stored: no space left on device", "temporary", 0.0),
    "a message store's limit": ("APPEND", b"NO Message storage quota exceeded", "temporary", 0.0),
    "netease wants ID": (
        "SELECT",
        b"NO SELECT Unsafe Login. Please contact kefu@188.com for help",
        "mailbox",
        0.0,
    ),
    "rfc 5530": ("FETCH", b"NO [THROTTLED] come again", "throttled", 0.0),
    "rfc 5530, a limit of another kind": ("FETCH", b"NO [LIMIT] not that much", "temporary", 0.0),
    "a code of its own": ("FETCH", b"NO [X-BUSY] too many concurrent requests", "throttled", 0.0),
    "a wish in minutes": ("FETCH", b"NO Too many connections, try again in 5 minutes", "throttled", 300.0),
    "a wish in seconds": ("FETCH", b"NO [THROTTLED] Please retry after 30 seconds", "throttled", 30.0),
    "a wish without measure": ("FETCH", b"NO [THROTTLED] Please retry after 999999999 seconds", "throttled", 3600.0),
    "not there": ("FETCH", b"NO no such message", "permanent", 0.0),
    "a permission": ("SELECT", b"NO [NOPERM] Permission denied", "mailbox", 0.0),
    "a code stands for itself": ("SELECT", b"NO [NONEXISTENT] no mailbox; too many connections", "mailbox", 0.0),
}

# name -> (what follows `* BYE `, whether the server wants to be left alone, seconds that it asks for)
BYES: dict[str, tuple[bytes, bool, float]] = {
    "exchange hangs up": (b"Connection closed. 14", False, 0.0),
    "exchange throttles": (b"Request is throttled. Suggested Backoff Time: 178755 milliseconds", True, 178.755),
    "exchange's token": (b"Session invalidated - AccessTokenExpired", False, 0.0),
    "gmail's session": (b"Session expired, please login again.", False, 0.0),
    "gmail's system error": (b"System Error", False, 0.0),
    "gmail's bandwidth": (b"[ALERT] Account exceeded command or bandwidth limits.", True, 0.0),
    "yandex": (b"Autologout; idle for too long", False, 0.0),
    "too many": (b"[UNAVAILABLE] Too many connections", True, 0.0),
    "courier's limit": (b"Maximum connection limit reached for ::ffff:192.0.2.1", True, 0.0),
    "a code": (b"[THROTTLED] bye", True, 0.0),
    "a restart": (b"[UNAVAILABLE] Server shutting down.", False, 0.0),
}
