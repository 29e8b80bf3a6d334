-- The files that a source has picked up: each once by its name and hash, in the transaction of its rows' batches.

CREATE TABLE files (
    source            text        NOT NULL,
    name              text        NOT NULL,
    revision          integer     NOT NULL CHECK (revision > 0),
    state             text        NOT NULL CHECK (state IN ('landed', 'refused', 'unchanged')),
    reason            text        NOT NULL DEFAULT '',
    stamp             text        NOT NULL,
    modified_at       timestamptz NOT NULL,
    size              bigint      NOT NULL,
    sha256            char(64),
    rows              bigint      NOT NULL DEFAULT 0 CHECK (rows >= 0),
    removed           bigint      NOT NULL DEFAULT 0 CHECK (removed >= 0),
    lower             timestamptz,
    upper             timestamptz,
    seen_at           timestamptz NOT NULL DEFAULT now(),
    previous_revision integer GENERATED ALWAYS AS (CASE WHEN revision > 1 THEN revision - 1 END) STORED,
    PRIMARY KEY (source, name, revision),
    FOREIGN KEY (source, name, previous_revision) REFERENCES files (source, name, revision),
    CHECK ((state = 'refused') = (reason <> '')),
    CHECK (state = 'refused' OR sha256 IS NOT NULL),
    CHECK (CASE WHEN state = 'landed' THEN num_nonnulls(lower, upper) = 2 AND upper - lower = (rows + removed) * interval '1 microsecond'
                ELSE num_nonnulls(lower, upper) = 0 AND rows + removed = 0 END)
);
COMMENT ON TABLE files IS 'What was picked up of a source of files. Each row of a landed revision has a changed_at of its own in [lower, upper).';
COMMENT ON COLUMN files.stamp IS 'What the store said of the object: a file is read again only when that changes.';
COMMENT ON COLUMN files.removed IS 'Rows of former revisions that this one no longer holds, landed once more as removed.';

CREATE FUNCTION guard_file() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.state = 'landed' AND NEW.sha256 = (
        SELECT sha256 FROM files WHERE (source, name, state) = (NEW.source, NEW.name, 'landed') ORDER BY revision DESC LIMIT 1) THEN
        RAISE EXCEPTION 'file % of % is landed already with these bytes', NEW.name, NEW.source USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_file BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION guard_file();
CREATE TRIGGER keep_files BEFORE UPDATE OR DELETE OR TRUNCATE ON files FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE INDEX batches_by_upper ON batches (source, upper);
