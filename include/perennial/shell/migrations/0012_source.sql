-- What is known of a source's server between two landings, and rows that turn up behind the cursor.

ALTER TABLE cursors
    ADD COLUMN server       text NOT NULL DEFAULT '',
    ADD COLUMN seen_at      timestamptz,
    ADD COLUMN open_since   timestamptz,
    ADD COLUMN ahead        interval,
    ADD COLUMN recheck_from timestamptz,
    ADD COLUMN strays_at    timestamptz;
COMMENT ON COLUMN cursors.server IS 'The server that was asked last: its system identifier and timeline. Another one forgets what is remembered here.';
COMMENT ON COLUMN cursors.seen_at IS 'The source''s clock when its open transactions were looked at last.';
COMMENT ON COLUMN cursors.open_since IS 'No transaction that was open at seen_at had begun before this, and none that has begun since.';
COMMENT ON COLUMN cursors.ahead IS 'The source''s clock less this database''s at seen_at: it falls when the source''s clock is set back.';
COMMENT ON COLUMN cursors.recheck_from IS 'From here to the position rows may have been written after their time was landed; null: nowhere.';
COMMENT ON COLUMN cursors.strays_at IS 'When the rows that no landing takes were counted last.';

-- A late batch holds changes of an interval that had landed before. Like a replacing one it does not move the chain on.
ALTER TABLE batches DROP COLUMN reach CASCADE;
ALTER TABLE batches ADD COLUMN is_late boolean NOT NULL DEFAULT false;
ALTER TABLE batches
    ADD COLUMN reach timestamptz NOT NULL GENERATED ALWAYS AS (
        CASE WHEN replaces_seq IS NULL AND NOT is_late THEN upper ELSE coalesce(previous_upper, lower) END) STORED;
ALTER TABLE batches
    ADD UNIQUE (source, country, seq, reach),
    ADD FOREIGN KEY (source, country, previous_seq, previous_upper) REFERENCES batches (source, country, seq, reach);
DO $$
DECLARE name text;
BEGIN
    SELECT conname INTO STRICT name FROM pg_constraint
    WHERE conrelid = 'batches'::regclass AND contype = 'c'
      AND pg_get_constraintdef(oid) ~ 'replaces_seq IS NOT NULL.*lower >= previous_upper';
    EXECUTE format('ALTER TABLE batches DROP CONSTRAINT %I', name);
END $$;
ALTER TABLE batches ADD CHECK (replaces_seq IS NOT NULL OR is_late OR lower >= previous_upper);
COMMENT ON COLUMN batches.is_late IS 'Its rows were written after their time had landed: the source''s clock had been set back.';
