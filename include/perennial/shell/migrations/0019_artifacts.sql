-- Whose registry this is, whose word counts after a restore, and further manifests of a version.

CREATE TABLE generations (
    number     bigint PRIMARY KEY CHECK (number > 0),
    deployment uuid        NOT NULL DEFAULT gen_random_uuid(),
    reason     text        NOT NULL,
    raised_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE generations IS 'The highest is in force. Raised after a restore, by the clock: so that no two lives of a registry share a number.';
INSERT INTO generations (number, reason) VALUES (extract(epoch FROM clock_timestamp())::bigint, 'The registry was made.');
CREATE TRIGGER keep_generations BEFORE UPDATE OR DELETE OR TRUNCATE ON generations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE manifests (
    version      char(64)    NOT NULL REFERENCES versions,
    number       integer     NOT NULL CHECK (number > 1),
    kind         text        NOT NULL CHECK (kind IN ('signed again', 'stored again')),
    artifact_key text        NOT NULL,
    sha256       char(64)    NOT NULL,
    size         bigint      NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version, number)
);
COMMENT ON TABLE manifests IS 'Manifests of a version after the one in versions. The last is in force: it names the same files, unless no release names the version.';
CREATE TRIGGER keep_manifests BEFORE UPDATE OR DELETE OR TRUNCATE ON manifests
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION guard_manifest() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM versions WHERE id = NEW.version AND artifact_key IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version % has no artifact yet', NEW.version USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.kind = 'stored again' AND EXISTS (
        SELECT FROM releases
        WHERE (model, country, to_version) = (SELECT model, country, id FROM versions WHERE id = NEW.version)) THEN
        RAISE EXCEPTION 'version % was released: its artifact is immutable', NEW.version USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_manifest BEFORE INSERT ON manifests FOR EACH ROW EXECUTE FUNCTION guard_manifest();

CREATE VIEW artifacts AS
SELECT v.id AS version, coalesce(m.artifact_key, v.artifact_key) AS artifact_key, coalesce(m.sha256, v.sha256) AS sha256,
       coalesce(m.size, v.size) AS size, coalesce(m.number, 1) AS number
FROM versions AS v LEFT JOIN LATERAL (
    SELECT * FROM manifests WHERE version = v.id ORDER BY number DESC LIMIT 1) AS m ON true
WHERE v.artifact_key IS NOT NULL;
COMMENT ON VIEW artifacts IS 'The manifest in force of each version that has an artifact.';

-- A champion that cannot be read: who takes over, and which question its challenger was asked.

CREATE TABLE lost_champions (
    model      text        NOT NULL,
    country    text        NOT NULL,
    seq        integer     NOT NULL,
    reason     text        NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, country, seq),
    FOREIGN KEY (model, country, seq) REFERENCES releases (model, country, seq)
);
COMMENT ON TABLE lost_champions IS 'Champions whose artifact is missing or altered: their cells are due. A row goes when the artifact is back.';

ALTER TABLE releases DROP CONSTRAINT releases_kind_check;
ALTER TABLE releases ADD CONSTRAINT releases_kind_check CHECK (kind IN ('publish', 'rollback', 'undo', 'fallback'));
CREATE INDEX releases_not_published ON releases (model, country, from_version) WHERE kind <> 'publish';
COMMENT ON COLUMN releases.kind IS 'publish: by a verdict; rollback, undo: by a person; fallback: the champion was lost, a former one took over.';

ALTER TABLE verdicts ADD COLUMN as_first boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN verdicts.as_first IS 'Judged by floor and baseline alone: the champion could not be read, or could not predict.';
ALTER TABLE verdicts DROP CONSTRAINT verdicts_challenger_against_seq_window_start_window_end_key;
ALTER TABLE verdicts ADD CONSTRAINT verdicts_question_key
    UNIQUE (challenger, against_seq, window_start, window_end, as_first);
