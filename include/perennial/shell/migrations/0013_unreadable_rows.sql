-- Rows with a value that cannot be read are kept aside at landing, as they stood, and count when their batch is validated.

ALTER TABLE batches
    DROP CONSTRAINT batches_rows_check,
    ADD COLUMN unreadable_rows   bigint NOT NULL DEFAULT 0 CHECK (unreadable_rows >= 0),
    ADD COLUMN unreadable        jsonb  NOT NULL DEFAULT '{}',
    ADD COLUMN unreadable_key    text,
    ADD COLUMN unreadable_sha256 char(64),
    ADD COLUMN unreadable_size   bigint,
    ADD CONSTRAINT batches_rows_check CHECK (rows >= 0 AND rows + unreadable_rows > 0),
    ADD CONSTRAINT batches_accepted_check CHECK (rows > 0 OR state <> 'accepted'),
    ADD CONSTRAINT batches_unreadable_check CHECK (
        (unreadable = '{}') = (unreadable_rows = 0)
        AND num_nonnulls(unreadable_key, unreadable_sha256, unreadable_size) = CASE WHEN unreadable_rows > 0 THEN 3 ELSE 0 END);
COMMENT ON COLUMN batches.rows IS 'The rows that can be read. A batch without one is never accepted.';
COMMENT ON COLUMN batches.unreadable_rows IS 'Rows that came with it and have a value that is not of its column''s type, in an object of their own, as texts.';
COMMENT ON COLUMN batches.unreadable IS 'How many of them have which flaw; one row may have several.';
CREATE INDEX batches_unreadable ON batches (source, upper DESC) WHERE unreadable_rows > 0;

-- Each row of a file has its changed_at, whether it can be read or not.
ALTER TABLE files
    DROP CONSTRAINT files_check2,
    ADD COLUMN unreadable bigint NOT NULL DEFAULT 0 CHECK (unreadable >= 0),
    ADD CONSTRAINT files_interval CHECK (
        CASE WHEN state = 'landed' THEN num_nonnulls(lower, upper) = 2 AND upper - lower = (rows + unreadable + removed) * interval '1 microsecond'
             ELSE num_nonnulls(lower, upper) = 0 AND rows + unreadable + removed = 0 END);
COMMENT ON COLUMN files.unreadable IS 'Rows of the file that cannot be read, kept aside with the batches of their countries.';
