"""IMAP4rev1 (RFC 3501) and the extensions that a password check or a mailbox copy needs."""
