-- What validation keeps aside row by row, and what people decide about batches.

ALTER TABLE batches ALTER COLUMN event_min DROP NOT NULL, ALTER COLUMN event_max DROP NOT NULL,
                    ADD UNIQUE (source, country, seq, rows), ALTER COLUMN report SET DEFAULT '{}';
COMMENT ON COLUMN batches.event_min IS 'Of the rows that have an event time; null where none has.';

CREATE TABLE splits (
    source          text     NOT NULL,
    country         text     NOT NULL,
    seq             integer  NOT NULL,
    rows            bigint   NOT NULL,
    accepted_rows   bigint   NOT NULL CHECK (accepted_rows >= 0),
    rejected_rows   bigint   NOT NULL CHECK (rejected_rows > 0),
    rejections      jsonb    NOT NULL,
    event_min       timestamptz,
    event_max       timestamptz,
    accepted_key    text,
    accepted_sha256 char(64),
    accepted_size   bigint,
    rejected_key    text     NOT NULL,
    rejected_sha256 char(64) NOT NULL,
    rejected_size   bigint   NOT NULL,
    PRIMARY KEY (source, country, seq),
    FOREIGN KEY (source, country, seq, rows) REFERENCES batches (source, country, seq, rows),
    CHECK (accepted_rows + rejected_rows = rows),
    CHECK (num_nonnulls(event_min, event_max, accepted_key, accepted_sha256, accepted_size)
           = CASE WHEN accepted_rows > 0 THEN 5 ELSE 0 END)
);
CREATE INDEX splits_newest ON splits (source, event_max DESC) WHERE event_max IS NOT NULL;
COMMENT ON TABLE splits IS 'A batch with rejected rows in two objects: what readers get, and the rows kept aside, each with the expectations it broke.';
COMMENT ON COLUMN splits.rejections IS 'How many rows broke which expectation.';

CREATE INDEX batches_held ON batches (source, country, seq) WHERE state = 'quarantined';

CREATE FUNCTION guard_split() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE batch splits := coalesce(NEW, OLD);
BEGIN
    PERFORM FROM batches WHERE (source, country, seq) = (batch.source, batch.country, batch.seq)
                           AND state IN ('landed', 'quarantined') FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'batch %/% % is decided: what is read of it never changes', batch.source, batch.country, batch.seq
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN batch;
END $$;
CREATE TRIGGER guard_split BEFORE INSERT OR UPDATE OR DELETE ON splits FOR EACH ROW EXECUTE FUNCTION guard_split();
CREATE TRIGGER keep_splits BEFORE TRUNCATE ON splits FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE VIEW readable AS
SELECT b.source, b.country, b.seq, b.state, b.lower, b.upper, b.report, b.decided_at,
       CASE WHEN s.seq IS NULL THEN b.rows ELSE s.accepted_rows END AS rows,
       CASE WHEN s.seq IS NULL THEN b.event_min ELSE s.event_min END AS event_min,
       CASE WHEN s.seq IS NULL THEN b.event_max ELSE s.event_max END AS event_max,
       CASE WHEN s.seq IS NULL THEN b.object_key ELSE s.accepted_key END AS object_key,
       CASE WHEN s.seq IS NULL THEN b.sha256 ELSE s.accepted_sha256 END AS sha256
FROM batches AS b LEFT JOIN splits AS s USING (source, country, seq);
COMMENT ON VIEW readable IS 'The batches as readers get them: without their rejected rows.';

CREATE TABLE batch_decisions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text        NOT NULL,
    country    text        NOT NULL,
    seq        integer     NOT NULL,
    decision   text        NOT NULL CHECK (decision IN ('accept', 'retract', 'validate again')),
    person     text        NOT NULL CHECK (btrim(person) <> ''),
    reason     text        NOT NULL CHECK (btrim(reason) <> ''),
    overruled  text        NOT NULL,
    versions   char(64)[]  NOT NULL DEFAULT '{}',
    decided_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (source, country, seq) REFERENCES batches (source, country, seq)
);
CREATE INDEX batch_decisions_by_batch ON batch_decisions (source, country, seq);
CREATE INDEX snapshots_by_country ON snapshots (source, country, last_seq);
CREATE INDEX versions_of_snapshot ON versions (snapshot);
COMMENT ON TABLE batch_decisions IS 'What people decided about batches: the reason that stood before, and at a retraction the versions trained on it.';
CREATE TRIGGER keep_batch_decisions BEFORE UPDATE OR DELETE OR TRUNCATE ON batch_decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What earlier validations reported was their findings alone; they had no profile to keep.
UPDATE batches SET report = CASE WHEN report = '[]' THEN '{}' ELSE jsonb_build_object('findings', report) END
WHERE jsonb_typeof(report) = 'array';
