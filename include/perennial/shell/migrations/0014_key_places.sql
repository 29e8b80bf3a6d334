-- A row in force is in force once: where a source's keys have been, and from which batch on a reading looks for later revisions.

CREATE TABLE key_indexes (
    source  text     PRIMARY KEY,
    number  smallint NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY,
    made_of text     NOT NULL,
    changes bigint   NOT NULL DEFAULT 0
);
COMMENT ON TABLE key_indexes IS 'The sources of tables whose keys are in key_places. A source without a row gets one, from the lake, at its next landing.';
COMMENT ON COLUMN key_indexes.made_of IS 'The version of the hashes, and the columns that they are made of. After a change of either the index is made again.';
COMMENT ON COLUMN key_indexes.changes IS 'Counts up with each landing and replacement: one that looked its keys up before looks again.';

CREATE TABLE key_places (
    index_number smallint NOT NULL,
    key_hash     bigint   NOT NULL,
    country      text     COLLATE "C" NOT NULL,
    PRIMARY KEY (index_number, key_hash, country)
);
COMMENT ON TABLE key_places IS 'In which countries keys have been landed: a key that is landed elsewhere is removed there. Too many places do no harm: what a country never had is removed from it in vain.';

CREATE INDEX batches_by_reach ON batches (source, country, reach);

CREATE FUNCTION first_changed_since(of_source text, of_country text, since timestamptz) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT seq FROM batches WHERE source = of_source AND country = of_country AND reach > since ORDER BY reach, seq LIMIT 1
$$;
COMMENT ON FUNCTION first_changed_since IS 'A country''s first batch with changes after a moment.';

CREATE FUNCTION first_to_read(of_source text, of_country text, up_to integer, window_start timestamptz, window_end timestamptz)
RETURNS integer LANGUAGE sql STABLE AS $$
    WITH inside AS (
        SELECT b.seq, b.lower, b.replaces_seq FROM batches AS b JOIN readable AS r USING (source, country, seq)
        WHERE b.source = of_source AND b.country = of_country AND b.seq <= up_to AND b.state = 'accepted'
          AND b.event_max >= window_start AND b.event_min <= window_end
          AND r.event_max >= window_start AND r.event_min <= window_end)
    SELECT least(min(seq), first_changed_since(of_source, of_country, min(lower) FILTER (WHERE replaces_seq IS NOT NULL)))
    FROM inside
$$;
COMMENT ON FUNCTION first_to_read IS 'The first batch with rows of a window, or with changes after those of such a batch: one that replaces another holds old changes under a new number.';
