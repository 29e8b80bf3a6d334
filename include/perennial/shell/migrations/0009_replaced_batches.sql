-- A batch whose rows are landed anew, from the source or under other countries, is replaced; and outcomes say what kept rows back.

-- A batch that replaces another one has its interval. It does not move the chain on: reach is up to when a country has landed.
ALTER TABLE batches
    ADD COLUMN replaces_country text,
    ADD COLUMN replaces_seq     integer,
    ADD COLUMN reach            timestamptz NOT NULL
               GENERATED ALWAYS AS (CASE WHEN replaces_seq IS NULL THEN upper ELSE coalesce(previous_upper, lower) END) STORED,
    DROP CONSTRAINT batches_source_country_previous_seq_previous_upper_fkey,
    DROP CONSTRAINT batches_source_country_seq_upper_key,
    DROP CONSTRAINT batches_check1,
    ADD UNIQUE (source, country, seq, reach),
    ADD UNIQUE (source, country, seq, lower, upper),
    ADD FOREIGN KEY (source, country, previous_seq, previous_upper) REFERENCES batches (source, country, seq, reach),
    ADD FOREIGN KEY (source, replaces_country, replaces_seq, lower, upper)
        REFERENCES batches (source, country, seq, lower, upper),
    ADD CHECK (num_nonnulls(replaces_country, replaces_seq) IN (0, 2)),
    ADD CHECK (replaces_seq IS NOT NULL OR lower >= previous_upper);
COMMENT ON COLUMN batches.previous_upper IS 'The reach of the batch before: up to when its country had landed.';
COMMENT ON COLUMN batches.replaces_seq IS 'The batch whose changes this one holds in its place. That one is retracted, and read by nobody.';
CREATE UNIQUE INDEX batches_replacing ON batches (source, replaces_country, replaces_seq, country) WHERE replaces_seq IS NOT NULL;
CREATE INDEX batches_replacements ON batches (source, country, seq) WHERE replaces_seq IS NOT NULL;

CREATE OR REPLACE FUNCTION guard_batch() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (to_jsonb(OLD) - '{state,reason,report,decided_at,previous_seq,reach}'::text[])
       <> (to_jsonb(NEW) - '{state,reason,report,decided_at,previous_seq,reach}'::text[]) THEN
        RAISE EXCEPTION 'batch %/% % is immutable once landed', OLD.source, OLD.country, OLD.seq
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('landed', 'accepted'), ('landed', 'quarantined'), ('quarantined', 'accepted'), ('quarantined', 'retracted'),
        ('accepted', 'retracted')) THEN
        RAISE EXCEPTION 'batch %/% % cannot go from % to %', OLD.source, OLD.country, OLD.seq, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION guard_replacement() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF (SELECT state FROM batches WHERE (source, country, seq) = (NEW.source, NEW.replaces_country, NEW.replaces_seq))
       IS DISTINCT FROM 'retracted' THEN
        RAISE EXCEPTION 'batch %/% % may still be read: it cannot be replaced', NEW.source, NEW.replaces_country, NEW.replaces_seq
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_replacement BEFORE INSERT ON batches FOR EACH ROW WHEN (NEW.replaces_seq IS NOT NULL)
    EXECUTE FUNCTION guard_replacement();

ALTER TABLE batch_decisions DROP CONSTRAINT batch_decisions_decision_check,
    ADD CHECK (decision IN ('accept', 'retract', 'validate again', 'extract again'));

CREATE VIEW replaced AS
SELECT source, replaces_country AS country, replaces_seq AS seq,
       string_agg(country || ' ' || batches.seq, ', ' ORDER BY country) AS by
FROM batches WHERE replaces_seq IS NOT NULL GROUP BY source, replaces_country, replaces_seq;
COMMENT ON VIEW replaced IS 'Batches whose changes others hold in their place.';

ALTER TABLE outcomes ADD COLUMN held text NOT NULL DEFAULT '';
COMMENT ON COLUMN outcomes.held IS 'When the run was planned: the held batch that kept the country''s newest rows back, and why.';
