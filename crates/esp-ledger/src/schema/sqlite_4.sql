-- Values of a pool that were never issued nor lent can be taken out again: a mistake in a series can be undone.
DROP TRIGGER identity_stays;
CREATE TRIGGER identity_stays BEFORE DELETE ON identity
WHEN old.state <> 'FREE' OR old.lease IS NOT NULL
BEGIN SELECT RAISE (ABORT, 'an identity that was issued or lent is never removed'); END;
