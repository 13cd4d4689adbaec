-- The next event of a station's chain, in the statement that makes it necessary: one round trip, and no lock between two.
-- The hash is that of `Event::computed_hash`: a JSON list without spaces. `verify` computes it again outside.
CREATE FUNCTION note(own_station TEXT, own_run BIGINT, own_kind TEXT, own_body TEXT, own_at BIGINT)
RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    own_seq BIGINT;
    prev TEXT;
BEGIN
    SELECT seq + 1, hash INTO own_seq, prev FROM event WHERE station = own_station ORDER BY seq DESC LIMIT 1;
    own_seq := coalesce(own_seq, 1);
    prev := coalesce(prev, repeat('0', 64));
    INSERT INTO event (station, seq, at_ms, run, kind, body, prev_hash, hash)
    VALUES (own_station, own_seq, own_at, own_run, own_kind, own_body, prev,
            encode(sha256(convert_to('[' || concat_ws(',', to_json(prev), to_json(own_station), own_seq, own_at,
                coalesce(own_run::text, 'null'), to_json(own_kind), to_json(own_body)) || ']', 'UTF8')), 'hex'));
    RETURN own_seq;
END $$;
