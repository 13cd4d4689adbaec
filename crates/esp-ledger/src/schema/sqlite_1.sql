CREATE TABLE pool (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE device (
    base_mac TEXT PRIMARY KEY
        CHECK (length(base_mac) = 12 AND base_mac NOT GLOB '*[^0-9a-f]*'
               AND base_mac NOT IN ('000000000000', 'ffffffffffff')),
    chip TEXT,
    flash_uid TEXT,
    quarantined TEXT,
    first_seen_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL REFERENCES pool (name),
    station TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'ACTIVE' CHECK (state IN ('ACTIVE', 'RETURNED', 'LOST')),
    granted_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE identity (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL REFERENCES pool (name),
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    position INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'FREE'
        CHECK (state IN ('FREE', 'RESERVED', 'WRITING', 'WRITTEN', 'VERIFIED', 'LABELLED', 'VOID')),
    device TEXT REFERENCES device (base_mac),
    lease INTEGER REFERENCES lease (id),
    reason TEXT,
    labels INTEGER NOT NULL DEFAULT 0,
    changed_ms INTEGER NOT NULL,
    UNIQUE (kind, value),
    UNIQUE (pool, position),
    CHECK (state = 'VOID' OR (state = 'FREE') = (device IS NULL)),
    CHECK (state <> 'VOID' OR reason IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX identity_one_live ON identity (device, pool) WHERE state NOT IN ('FREE', 'VOID');
CREATE INDEX identity_free ON identity (pool, position) WHERE state = 'FREE';

CREATE TRIGGER identity_starts_free BEFORE INSERT ON identity
WHEN new.state <> 'FREE' BEGIN SELECT RAISE (ABORT, 'an identity begins FREE'); END;

CREATE TRIGGER identity_steps BEFORE UPDATE ON identity
WHEN NOT (old.state = new.state
       OR (old.state || '>' || new.state) IN ('FREE>RESERVED', 'RESERVED>WRITING', 'WRITING>WRITTEN',
                                              'WRITTEN>VERIFIED', 'VERIFIED>LABELLED')
       OR (new.state = 'VOID' AND old.state <> 'VOID'))
BEGIN SELECT RAISE (ABORT, 'this step between states does not exist'); END;

CREATE TRIGGER identity_is_fixed BEFORE UPDATE ON identity
WHEN old.id IS NOT new.id OR old.pool IS NOT new.pool OR old.kind IS NOT new.kind OR old.value IS NOT new.value
     OR old.position IS NOT new.position
     OR (old.device IS NOT NULL AND old.device IS NOT new.device)
     OR (old.lease IS NOT NULL AND old.lease IS NOT new.lease)
BEGIN SELECT RAISE (ABORT, 'an identity, its unit and its lease do not change'); END;

CREATE TRIGGER identity_stays BEFORE DELETE ON identity
BEGIN SELECT RAISE (ABORT, 'an identity is never removed'); END;

CREATE TABLE recipe (
    hash TEXT PRIMARY KEY CHECK (length(hash) = 64),
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    added_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE artefact (
    sha256 TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    name TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    added_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL REFERENCES device (base_mac),
    station TEXT NOT NULL,
    recipe TEXT REFERENCES recipe (hash),
    state TEXT NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'PASSED', 'FAILED', 'ABORTED')),
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    CHECK ((state = 'RUNNING') = (ended_ms IS NULL))
) STRICT;
CREATE INDEX run_device ON run (device);

CREATE TABLE measurement (
    run INTEGER NOT NULL REFERENCES run (id),
    name TEXT NOT NULL,
    value TEXT,
    low TEXT,
    high TEXT,
    verdict TEXT NOT NULL CHECK (verdict IN ('pass', 'fail', 'unknown')),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) STRICT;

CREATE TABLE event (
    station TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    at_ms INTEGER NOT NULL,
    run INTEGER REFERENCES run (id),
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    PRIMARY KEY (station, seq)
) STRICT;

CREATE TRIGGER event_is_fixed BEFORE UPDATE ON event
BEGIN SELECT RAISE (ABORT, 'events do not change'); END;
CREATE TRIGGER event_stays BEFORE DELETE ON event
BEGIN SELECT RAISE (ABORT, 'events are never removed'); END;
