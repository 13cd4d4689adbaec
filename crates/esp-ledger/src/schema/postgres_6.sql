-- Whoever shows what goes on at all stations hears of each run that begins or ends.
CREATE FUNCTION run_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mcp_esptool_run', left(new.station, 200));
    RETURN NULL;
END $$;
CREATE TRIGGER run_changed AFTER INSERT OR UPDATE OF state ON run FOR EACH ROW EXECUTE FUNCTION run_changed();
