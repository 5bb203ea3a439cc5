-- A ledger as the second version of its tables left it.
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE accounts (
        account     TEXT PRIMARY KEY,
        domain      TEXT NOT NULL,
        adoption    TEXT NOT NULL,              -- seen | adopting | adopted | refused
        reason      TEXT NOT NULL DEFAULT '',   -- why refused, or what went wrong last
        attempts    INTEGER NOT NULL DEFAULT 0, -- adoptions tried by a worker
        not_before  REAL NOT NULL DEFAULT 0,    -- when a worker tries again
        created_at  REAL,                       -- NEW made it
        verified_at REAL,                       -- last right password
        adopted_at  REAL
    ) WITHOUT ROWID
    ;
INSERT INTO "accounts" VALUES('done@example.com','example.com','adopted','',0,1000000020.0,NULL,1000000000.0,1000000000.0);
INSERT INTO "accounts" VALUES('held@example.com','example.com','adopted','',0,1000000020.0,NULL,1000000000.0,1000000000.0);
CREATE TABLE audit (
        id     INTEGER PRIMARY KEY,
        at     REAL NOT NULL,
        actor  TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    );
CREATE TABLE jobs (
        id            INTEGER PRIMARY KEY,
        account       TEXT NOT NULL,
        domain        TEXT NOT NULL,
        source        TEXT NOT NULL,
        server        TEXT NOT NULL,               -- the old server's host: what the limit on copies counts
        phase         TEXT NOT NULL,               -- pending | waiting | held | done
        created_at    REAL NOT NULL,
        not_before    REAL NOT NULL DEFAULT 0,
        attempts      INTEGER NOT NULL DEFAULT 0,  -- claims that ended in trouble, since the last success or retry
        bugs          INTEGER NOT NULL DEFAULT 0,
        losses        INTEGER NOT NULL DEFAULT 0,  -- leases that ran out: the worker died with this job
        fence         INTEGER NOT NULL DEFAULT 0,  -- grows with each claim; an old holder's word no longer counts
        lease_until   REAL NOT NULL DEFAULT 0,     -- 0: nobody runs it
        leased_at     REAL NOT NULL DEFAULT 0,
        lease_worker  TEXT NOT NULL DEFAULT '',
        lease_host    TEXT NOT NULL DEFAULT '',
        lease_process TEXT NOT NULL DEFAULT '',    -- pid and start time: a dead process's lease is free at once
        started_at    REAL,                        -- the first claim
        finished_at   REAL,
        seconds       REAL NOT NULL DEFAULT 0,     -- spent running, all attempts together
        reason        TEXT NOT NULL DEFAULT '',
        copied        INTEGER NOT NULL DEFAULT 0,  -- messages, all attempts that ended
        bytes         INTEGER NOT NULL DEFAULT 0,
        live_copied   INTEGER NOT NULL DEFAULT 0,  -- messages, the attempt that runs
        live_bytes    INTEGER NOT NULL DEFAULT 0,
        already       INTEGER NOT NULL DEFAULT 0,  -- messages the last attempt found there
        refused       INTEGER NOT NULL DEFAULT 0,
        unexplained   INTEGER NOT NULL DEFAULT 0,
        report        TEXT NOT NULL DEFAULT '',    -- of the last attempt that ended, JSON
        identity      TEXT, passes INTEGER NOT NULL DEFAULT 0,                        -- of the source INBOX: two accounts must not copy one mailbox
        UNIQUE (account, server)
    );
INSERT INTO "jobs" VALUES(1,'done@example.com','example.com','imap://old:143','old','done',1000000000.0,0.0,0,0,0,1,0.0,1000000000.0,'','','',1000000000.0,1000000000.0,0.0,'',3,30,0,0,0,0,0,'{"mailboxes":[]}',NULL,1);
INSERT INTO "jobs" VALUES(2,'held@example.com','example.com','imap://old:143','old','held',1000000000.0,0.0,0,0,0,1,0.0,1000000000.0,'','','',1000000000.0,NULL,0.0,'a reason',0,0,0,0,0,0,0,'',NULL,0);
CREATE TABLE logins (
        account     TEXT NOT NULL REFERENCES accounts (account) ON DELETE CASCADE,
        server      TEXT NOT NULL,              -- the old server's host: another port or TLS is no other server
        source      TEXT NOT NULL,              -- the endpoint
        login       BLOB NOT NULL,
        sealed      BLOB,
        verified_at REAL NOT NULL,
        wiped_at    REAL,
        exporting   INTEGER NOT NULL DEFAULT 0, -- 1: the row belongs to the export, until it is purged
        purged_at   REAL,
        PRIMARY KEY (account, server)
    ) WITHOUT ROWID
    ;
INSERT INTO "logins" VALUES('done@example.com','old','imap://old:143',X'646F6E65',X'626F78',1000000000.0,NULL,0,NULL);
INSERT INTO "logins" VALUES('held@example.com','old','imap://old:143',X'68656C64',X'626F78',1000000000.0,NULL,0,NULL);
CREATE TABLE marked_mailboxes (
        id                 INTEGER PRIMARY KEY,
        copy               TEXT NOT NULL,               -- which copy: source account and target account
        source             BLOB NOT NULL,               -- names as on the wire
        target             BLOB NOT NULL,
        source_uidvalidity INTEGER NOT NULL,
        target_uidvalidity INTEGER NOT NULL,
        runs               TEXT NOT NULL DEFAULT '',    -- 1:500 1001:1500,...
        generation         INTEGER NOT NULL DEFAULT 0, recopy INTEGER NOT NULL DEFAULT 0,  -- grows with each commit
        UNIQUE (copy, source)
    );
INSERT INTO "marked_mailboxes" VALUES(1,'done@example.com',X'494E424F58',X'494E424F58',1000,2000,'1:4 1:4',4,0);
CREATE TABLE marked_messages (
        mailbox     INTEGER NOT NULL REFERENCES marked_mailboxes (id) ON DELETE CASCADE,
        uid         INTEGER NOT NULL,                   -- at the source
        state       TEXT NOT NULL,                      -- intent | confirmed (stored, but not known where) | refused
        floor       INTEGER NOT NULL DEFAULT 0,         -- the target's next uid before an intent
        recorded_at REAL NOT NULL DEFAULT 0,
        reason      TEXT NOT NULL DEFAULT '',           -- of a refusal; of an intent, the form it is sent in
        PRIMARY KEY (mailbox, uid)
    ) WITHOUT ROWID
    ;
INSERT INTO "marked_messages" VALUES(1,5,'refused',0,0.0,'too big');
CREATE TABLE marked_uidls (
        copy        TEXT NOT NULL,
        uidl        BLOB NOT NULL,                      -- or what stands for one, where the server knows none
        state       TEXT NOT NULL,                      -- intent | copied | refused
        uidvalidity INTEGER NOT NULL DEFAULT 0,         -- of the target's INBOX
        uid         INTEGER NOT NULL DEFAULT 0,         -- at the target, or the floor of an intent
        recorded_at REAL NOT NULL DEFAULT 0,
        reason      TEXT NOT NULL DEFAULT '',
        digest      BLOB NOT NULL DEFAULT x'',          -- of the content
        PRIMARY KEY (copy, uidl)
    ) WITHOUT ROWID
    ;
INSERT INTO "marked_uidls" VALUES('pop@example.com',X'75636F70696564','copied',2000,1,1000000000.0,'',X'0101010101010101010101010101010101010101010101010101010101010101');
INSERT INTO "marked_uidls" VALUES('pop@example.com',X'75696E74656E74','intent',2000,2,1000000002.0,'nul',X'0303030303030303030303030303030303030303030303030303030303030303');
INSERT INTO "marked_uidls" VALUES('pop@example.com',X'7572656675736564','refused',2000,0,1000000001.0,'too big',X'0202020202020202020202020202020202020202020202020202020202020202');
CREATE TABLE passes (
            mailbox    INTEGER PRIMARY KEY REFERENCES marked_mailboxes (id) ON DELETE CASCADE,
            generation INTEGER NOT NULL,            -- of the marks then: with others it tells nothing of arrivals
            uidnext    INTEGER NOT NULL,
            messages   INTEGER NOT NULL,
            modseq     INTEGER NOT NULL,            -- HIGHESTMODSEQ, 0 where the server has none
            complete   INTEGER NOT NULL,            -- 1: nothing was refused, left out or in doubt
            acl        INTEGER NOT NULL,            -- 1: with the access rights
            flags      BLOB                         -- as last seen at the source, compressed; NULL: not remembered
        );
INSERT INTO "passes" VALUES(1,4,6,5,7,1,0,NULL);
CREATE INDEX accounts_by_adoption ON accounts (adoption, not_before);
CREATE INDEX logins_to_export ON logins (source, account) WHERE exporting;
CREATE INDEX jobs_due ON jobs (phase, server, not_before);
CREATE INDEX jobs_running ON jobs (server, lease_until) WHERE lease_until > 0;
CREATE INDEX jobs_by_identity ON jobs (identity) WHERE identity IS NOT NULL;
COMMIT;
