-- Values of a pool that were never issued nor lent can be taken out again: a mistake in a series can be undone.
CREATE OR REPLACE FUNCTION identity_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF old.state <> 'FREE' OR old.lease IS NOT NULL THEN
            RAISE EXCEPTION 'an identity that was issued or lent is never removed';
        END IF;
        RETURN old;
    ELSIF TG_OP = 'INSERT' THEN
        IF new.state <> 'FREE' THEN
            RAISE EXCEPTION 'an identity begins FREE';
        END IF;
        RETURN new;
    END IF;
    IF NOT (old.state = new.state
            OR (old.state || '>' || new.state) IN ('FREE>RESERVED', 'RESERVED>WRITING', 'WRITING>WRITTEN',
                                                   'WRITTEN>VERIFIED', 'VERIFIED>LABELLED')
            OR (new.state = 'VOID' AND old.state <> 'VOID')) THEN
        RAISE EXCEPTION 'this step between states does not exist';
    END IF;
    IF (old.id, old.pool, old.kind, old.value, old.position)
           IS DISTINCT FROM (new.id, new.pool, new.kind, new.value, new.position)
       OR (old.device IS NOT NULL AND old.device IS DISTINCT FROM new.device)
       OR (old.lease IS NOT NULL AND old.lease IS DISTINCT FROM new.lease) THEN
        RAISE EXCEPTION 'an identity, its unit and its lease do not change';
    END IF;
    RETURN new;
END $$;
