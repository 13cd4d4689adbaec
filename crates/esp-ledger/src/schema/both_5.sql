-- How far each receiver has got in a station's chain of events.
CREATE TABLE outbox (
    sink TEXT NOT NULL,
    station TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (sink, station)
);
