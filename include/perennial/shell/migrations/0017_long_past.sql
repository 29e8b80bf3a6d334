-- What one more ingest reads does not grow with what was ingested before it.

-- The newest landed revision of a file is found without the refused and unchanged ones after it; and those of an interval.
CREATE INDEX files_landed ON files (source, name, revision DESC) WHERE state = 'landed';
CREATE INDEX files_by_upper ON files (source, name, upper) WHERE state = 'landed';

-- Rows that a file may still have in force, from revisions before its last but one.
ALTER TABLE files
    ADD COLUMN older_at     timestamptz,
    ADD COLUMN older_key    text,
    ADD COLUMN older_sha256 char(64),
    ADD CHECK (num_nonnulls(older_key, older_sha256) IN (0, 2)),
    ADD CHECK (older_key IS NULL OR older_at IS NOT NULL);
COMMENT ON COLUMN files.older_at IS 'When it was looked which rows of revisions before the last but one may still be in force; null: it was not, or batches were undecided.';
COMMENT ON COLUMN files.older_key IS 'The object with those rows; null where there are none.';
CREATE INDEX batch_decisions_by_time ON batch_decisions (source, decided_at);

-- Which batches may hold a key is told without opening them.
CREATE TABLE key_filters (
    source    text    NOT NULL,
    country   text    NOT NULL,
    seq       integer NOT NULL,
    key_types text    NOT NULL,
    filter    bytea   NOT NULL,
    PRIMARY KEY (source, country, seq),
    FOREIGN KEY (source, country, seq) REFERENCES batches (source, country, seq)
);
COMMENT ON TABLE key_filters IS 'Per batch of files a Bloom filter of its rows'' keys: it never says no of a key that is there. Batches without one are read.';
COMMENT ON COLUMN key_filters.key_types IS 'The key''s columns and types when it was made: where they have changed, the filter says nothing.';
ALTER TABLE key_filters ALTER COLUMN filter SET STORAGE EXTERNAL;
CREATE TRIGGER keep_key_filters BEFORE UPDATE OR TRUNCATE ON key_filters FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE INDEX batches_of_country_by_upper ON batches (source, country, upper);

-- Accepted rows by the day of their event: of each batch, and of all of a country together.
CREATE TABLE batch_days (
    source  text    NOT NULL,
    country text    NOT NULL,
    day     date    NOT NULL,
    seq     integer NOT NULL,
    rows    bigint  NOT NULL,
    PRIMARY KEY (source, country, day, seq),
    FOREIGN KEY (source, country, seq) REFERENCES batches (source, country, seq)
);
COMMENT ON TABLE batch_days IS 'On which days accepted batches have how many rows, as their profiles say.';
CREATE INDEX batch_days_of_batch ON batch_days (source, country, seq);

CREATE TABLE days (
    source  text   NOT NULL,
    country text   NOT NULL,
    day     date   NOT NULL,
    rows    bigint NOT NULL CHECK (rows >= 0),
    PRIMARY KEY (source, country, day)
);
COMMENT ON TABLE days IS 'Rows by day over the accepted batches of a country: the sums of batch_days.';

CREATE FUNCTION count_days() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.state = 'accepted' THEN
        WITH gone AS (
            DELETE FROM batch_days WHERE source = OLD.source AND country = OLD.country AND seq = OLD.seq RETURNING day, rows)
        UPDATE days AS d SET rows = d.rows - gone.rows FROM gone
        WHERE d.source = OLD.source AND d.country = OLD.country AND d.day = gone.day;
    END IF;
    IF NEW.state = 'accepted' THEN
        INSERT INTO batch_days (source, country, day, seq, rows)
        SELECT NEW.source, NEW.country, key::date, NEW.seq, value::bigint
        FROM jsonb_each_text(NEW.report -> 'profile' -> 'days');
        INSERT INTO days AS d (source, country, day, rows)
        SELECT source, country, day, rows FROM batch_days
        WHERE source = NEW.source AND country = NEW.country AND seq = NEW.seq ORDER BY day
        ON CONFLICT (source, country, day) DO UPDATE SET rows = d.rows + excluded.rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_days AFTER INSERT OR UPDATE OF state, report ON batches FOR EACH ROW EXECUTE FUNCTION count_days();

INSERT INTO batch_days (source, country, day, seq, rows)
SELECT b.source, b.country, d.key::date, b.seq, d.value::bigint
FROM batches AS b, jsonb_each_text(b.report -> 'profile' -> 'days') AS d WHERE b.state = 'accepted';
INSERT INTO days (source, country, day, rows) SELECT source, country, day, sum(rows) FROM batch_days GROUP BY source, country, day;

-- What a country accepted last is found however many batches were held since.
CREATE INDEX batches_accepted ON batches (source, country, seq DESC) WHERE state = 'accepted';
