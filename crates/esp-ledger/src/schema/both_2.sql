-- One live identity of a kind a unit, whatever pool it came from.
DROP INDEX identity_one_live;
CREATE UNIQUE INDEX identity_one_live ON identity (device, kind) WHERE state NOT IN ('FREE', 'VOID');
CREATE INDEX run_started ON run (started_ms);
CREATE INDEX event_run ON event (run);
