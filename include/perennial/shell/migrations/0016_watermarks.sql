-- Each country has its own time: how far its accepted rows reach. A release is of a version whose rows still stand.

CREATE TABLE watermarks (
    source    text        NOT NULL,
    country   text        NOT NULL,
    seq       integer     NOT NULL,
    event_max timestamptz NOT NULL,
    PRIMARY KEY (source, country, seq),
    FOREIGN KEY (source, country, seq) REFERENCES batches (source, country, seq)
);
CREATE INDEX watermarks_newest ON watermarks (source, country, event_max DESC) INCLUDE (seq);
COMMENT ON TABLE watermarks IS 'Of each batch that is accepted now, the newest event that readers get: rejected and removed rows do not count.';

CREATE FUNCTION newest_event(of_source text, of_country text, of_seq integer) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN report -> 'profile' ? 'newest' THEN (report #>> '{profile,newest}')::timestamptz ELSE event_max END
    FROM readable WHERE source = of_source AND country = of_country AND seq = of_seq
$$;
COMMENT ON FUNCTION newest_event IS 'By the profile of the batch''s validation, which leaves removed rows out; without one, by the ledger.';

CREATE FUNCTION mark_batch() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM watermarks WHERE (source, country, seq) = (NEW.source, NEW.country, NEW.seq);
    IF NEW.state = 'accepted' THEN
        INSERT INTO watermarks (source, country, seq, event_max)
        SELECT NEW.source, NEW.country, NEW.seq, moment
        FROM newest_event(NEW.source, NEW.country, NEW.seq) AS moment WHERE moment IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER mark_landed AFTER INSERT ON batches FOR EACH ROW WHEN (NEW.state = 'accepted') EXECUTE FUNCTION mark_batch();
CREATE TRIGGER mark_decided AFTER UPDATE OF state ON batches FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION mark_batch();

INSERT INTO watermarks (source, country, seq, event_max)
SELECT source, country, seq, moment
FROM (SELECT source, country, seq,
             CASE WHEN report -> 'profile' ? 'newest' THEN (report #>> '{profile,newest}')::timestamptz ELSE event_max END AS moment
      FROM readable WHERE state = 'accepted') AS accepted
WHERE moment IS NOT NULL;

-- A run's data time was one for all countries of a source.
UPDATE runs SET as_of = told.as_of
FROM (
    SELECT id, jsonb_object_agg(source, countries) AS as_of
    FROM (
        SELECT r.id, flat.key AS source, jsonb_object_agg(landed.country, flat.value) AS countries
        FROM runs AS r CROSS JOIN jsonb_each(r.as_of) AS flat
        JOIN (SELECT c.source, l.country FROM cursors AS c CROSS JOIN countries_landed(c.source) AS l OFFSET 0) AS landed
            ON landed.source = flat.key
        WHERE jsonb_typeof(flat.value) = 'string'
        GROUP BY r.id, flat.key) AS by_source
    GROUP BY id) AS told
WHERE told.id = runs.id;
COMMENT ON COLUMN runs.as_of IS 'By source and country: the newest accepted event when the run was planned.';

ALTER TABLE snapshots ADD COLUMN known_until timestamptz;
COMMENT ON COLUMN snapshots.known_until IS 'Of a backfill: revisions with a later changed_at are not read. Null where all are.';

-- Whoever takes a batch out of what is read, or puts it in, and whoever releases a version that read it, wait for each other.
CREATE FUNCTION lock_readers() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('perennial batches ' || NEW.source || '/' || NEW.country, 0));
    NEW.decided_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER lock_readers BEFORE UPDATE OF state ON batches FOR EACH ROW
    WHEN (OLD.state <> 'landed' AND (OLD.state = 'accepted') <> (NEW.state = 'accepted')) EXECUTE FUNCTION lock_readers();

CREATE FUNCTION check_still_read(of_version char(64)) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE reading snapshots;
BEGIN
    SELECT s.* INTO reading FROM versions AS v JOIN snapshots AS s ON s.id = v.snapshot WHERE v.id = of_version;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('perennial batches ' || reading.source || '/' || reading.country, 0));
    IF unread_of(reading.source, reading.country, 1, reading.last_seq) <> reading.excluded THEN
        RAISE EXCEPTION 'version % read other batches of %/% than are read now', of_version, reading.source, reading.country
            USING ERRCODE = 'PB002';
    END IF;
END $$;
COMMENT ON FUNCTION check_still_read IS 'Refuses a version whose batches were decided about since: one was retracted, or one that it did without was accepted.';

CREATE OR REPLACE FUNCTION guard_release() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.kind = 'publish' THEN
        PERFORM check_still_read(NEW.to_version);
    END IF;
    IF NEW.kind = 'publish' AND EXISTS (
        SELECT FROM blockers
        WHERE model = NEW.model AND country = NEW.country AND (version IS NULL OR version = NEW.to_version)
          AND lifted_at IS NULL AND (until IS NULL OR until > now())) THEN
        RAISE EXCEPTION '%/% has a blocker', NEW.model, NEW.country USING ERRCODE = 'PB001';
    END IF;
    IF (SELECT artifact_key FROM versions WHERE id = NEW.to_version) IS NULL THEN
        RAISE EXCEPTION 'version % has no artifact: it cannot be released', NEW.to_version USING ERRCODE = 'restrict_violation';
    END IF;
    PERFORM FROM outcomes WHERE (run_id, model, country) = (NEW.run_id, NEW.model, NEW.country) AND state = 'pending' FOR UPDATE;
    IF NEW.kind = 'publish' AND NEW.run_id IS NOT NULL AND NOT FOUND THEN
        RAISE EXCEPTION '%/% is not, or no longer, to be decided in run %', NEW.model, NEW.country, NEW.run_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
