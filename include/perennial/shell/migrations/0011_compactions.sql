-- Small batches put together: derived copies, so that a reading touches few objects however often a source is ingested.

CREATE OR REPLACE VIEW readable AS
SELECT b.source, b.country, b.seq, b.state, b.lower, b.upper, b.report, b.decided_at,
       CASE WHEN s.seq IS NULL THEN b.rows ELSE s.accepted_rows END AS rows,
       CASE WHEN s.seq IS NULL THEN b.event_min ELSE s.event_min END AS event_min,
       CASE WHEN s.seq IS NULL THEN b.event_max ELSE s.event_max END AS event_max,
       CASE WHEN s.seq IS NULL THEN b.object_key ELSE s.accepted_key END AS object_key,
       CASE WHEN s.seq IS NULL THEN b.sha256 ELSE s.accepted_sha256 END AS sha256,
       CASE WHEN s.seq IS NULL THEN b.size ELSE s.accepted_size END AS size
FROM batches AS b LEFT JOIN splits AS s USING (source, country, seq);

CREATE TABLE compactions (
    source     text        NOT NULL,
    country    text        NOT NULL,
    first_seq  integer     NOT NULL,
    last_seq   integer     NOT NULL CHECK (last_seq > first_seq),
    excluded   integer[]   NOT NULL,
    batches    integer     NOT NULL CHECK (batches > 1 AND batches = last_seq - first_seq + 1 - cardinality(excluded)),
    rows       bigint      NOT NULL CHECK (rows > 0),
    event_min  timestamptz,
    event_max  timestamptz,
    object_key text        NOT NULL UNIQUE,
    sha256     char(64)    NOT NULL,
    size       bigint      NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, country, first_seq, last_seq, excluded),
    FOREIGN KEY (source, country, first_seq) REFERENCES batches (source, country, seq),
    FOREIGN KEY (source, country, last_seq) REFERENCES batches (source, country, seq)
);
COMMENT ON TABLE compactions IS 'The rows of a range of batches, as readers get them, in one object. The batches are the truth: a row may be deleted at any time.';
COMMENT ON COLUMN compactions.excluded IS 'The batches of the range that were not accepted. Once that has changed, nobody reads the compaction any more.';
CREATE INDEX compactions_in_order ON compactions (source, country, first_seq, last_seq DESC);

CREATE FUNCTION unread_of(of_source text, of_country text, from_seq integer, to_seq integer) RETURNS integer[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT seq FROM batches
        WHERE source = of_source AND country = of_country AND seq BETWEEN from_seq AND to_seq AND state <> 'accepted' ORDER BY seq)
$$;
COMMENT ON FUNCTION unread_of IS 'The batches of a range that nobody reads.';

CREATE FUNCTION guard_compaction() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (unread_of(NEW.source, NEW.country, NEW.first_seq, NEW.last_seq), NEW.rows) IS DISTINCT FROM (NEW.excluded, (
        SELECT sum(rows)::bigint FROM readable
        WHERE source = NEW.source AND country = NEW.country AND seq BETWEEN NEW.first_seq AND NEW.last_seq AND state = 'accepted')) THEN
        RAISE EXCEPTION 'a compaction of %/% batches % to % does not hold what is read of them', NEW.source, NEW.country,
            NEW.first_seq, NEW.last_seq USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_compaction BEFORE INSERT ON compactions FOR EACH ROW EXECUTE FUNCTION guard_compaction();
CREATE TRIGGER keep_compactions BEFORE UPDATE OR TRUNCATE ON compactions FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION compactions_in_force(of_source text, of_country text, up_to integer) RETURNS SETOF compactions LANGUAGE sql STABLE AS $$
    WITH RECURSIVE walk AS (
        SELECT NULL::compactions AS compaction, 0 AS reached
        UNION ALL
        SELECT next.c, (next.c).last_seq
        FROM walk CROSS JOIN LATERAL (
            SELECT c FROM compactions AS c
            WHERE c.source = of_source AND c.country = of_country AND c.first_seq > walk.reached AND c.last_seq <= up_to
              AND c.excluded = unread_of(c.source, c.country, c.first_seq, c.last_seq)
            ORDER BY c.first_seq, c.last_seq DESC LIMIT 1) AS next)
    SELECT (compaction).* FROM walk WHERE reached > 0
$$;
COMMENT ON FUNCTION compactions_in_force IS 'Of a country up to a batch: the longest compactions that hold just what is read of their range, none over another.';

CREATE FUNCTION pieces(of_source text, of_country text, up_to integer)
RETURNS TABLE (first_seq integer, last_seq integer, excluded integer[], batches integer, rows bigint, event_min timestamptz,
               event_max timestamptz, object_key text, sha256 char(64), size bigint) LANGUAGE sql STABLE AS $$
    WITH held AS MATERIALIZED (SELECT * FROM compactions_in_force(of_source, of_country, up_to)),
    gaps AS (
        SELECT last_seq + 1 AS first_seq, lead(first_seq, 1, up_to + 1) OVER (ORDER BY first_seq) - 1 AS last_seq
        FROM (SELECT 0 AS first_seq, 0 AS last_seq UNION ALL SELECT first_seq, last_seq FROM held) AS ends)
    SELECT first_seq, last_seq, excluded, batches, rows, event_min, event_max, object_key, sha256, size FROM held
    UNION ALL
    SELECT loose.* FROM gaps CROSS JOIN LATERAL (
        SELECT seq, seq AS last_seq, '{}'::integer[], 1, rows, event_min, event_max, object_key, sha256, size FROM readable
        WHERE source = of_source AND country = of_country AND seq BETWEEN gaps.first_seq AND gaps.last_seq AND state = 'accepted'
        OFFSET 0) AS loose  -- gap by gap: joined in another order it would read every batch of the country
$$;
COMMENT ON FUNCTION pieces IS 'What holds the rows of a country''s accepted batches up to one: compactions in force, and the batches between them.';
