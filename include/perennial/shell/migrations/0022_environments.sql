-- A new scikit-learn: which one fitted each release, which others have been shown to read it, and what was rebuilt, or not.

ALTER TABLE releases DROP CONSTRAINT releases_kind_check;
ALTER TABLE releases ADD CONSTRAINT releases_kind_check
    CHECK (kind IN ('publish', 'rollback', 'undo', 'fallback', 'rebuild'));
COMMENT ON COLUMN releases.kind IS 'publish: by a verdict; rollback, undo: by a person; fallback: the champion was lost, a former one took over; rebuild: the champion, fitted again by another scikit-learn.';

ALTER TABLE releases ADD COLUMN fitted_by text;
COMMENT ON COLUMN releases.fitted_by IS 'The scikit-learn that fitted the version. Readers who have that one keep its last release.';
ALTER TABLE releases DISABLE TRIGGER keep_releases;
UPDATE releases SET fitted_by = v.environment ->> 'scikit-learn' FROM versions AS v WHERE v.id = releases.to_version;
ALTER TABLE releases ENABLE TRIGGER keep_releases;
CREATE INDEX releases_by_library ON releases (model, country, fitted_by, seq DESC);
CREATE INDEX releases_taken_back ON releases (model, country, from_version) WHERE kind NOT IN ('publish', 'rebuild');

ALTER TABLE manifests DROP CONSTRAINT manifests_kind_check;
ALTER TABLE manifests ADD CONSTRAINT manifests_kind_check CHECK (kind IN ('signed again', 'stored again', 'shown to be read'));
ALTER TABLE manifests ADD COLUMN read_by text;
ALTER TABLE manifests ADD CONSTRAINT manifests_read_by_check CHECK ((kind = 'shown to be read') = (read_by IS NOT NULL));
COMMENT ON COLUMN manifests.read_by IS 'A scikit-learn that did not fit the version, and with which it predicts its stored sample.';

CREATE TABLE rebuilds_refused (
    model        text        NOT NULL,
    country      text        NOT NULL,
    seq          integer     NOT NULL,
    scikit_learn text        NOT NULL,
    reason       text        NOT NULL,
    noticed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, country, seq, scikit_learn),
    FOREIGN KEY (model, country, seq) REFERENCES releases (model, country, seq)
);
COMMENT ON TABLE rebuilds_refused IS 'Champions that a scikit-learn neither reads nor can be rebuilt for: their challengers are judged as first models are.';

CREATE FUNCTION check_rebuild(of_version char(64), former char(64)) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM FROM versions AS v JOIN versions AS f ON f.id = former
    WHERE v.id = of_version AND (v.recipe, v.snapshot, v.seed, v.judged_until) = (f.recipe, f.snapshot, f.seed, f.judged_until)
      AND v.environment ->> 'scikit-learn' IS DISTINCT FROM f.environment ->> 'scikit-learn';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'version % is not version %, fitted by another scikit-learn', of_version, former
            USING ERRCODE = 'restrict_violation';
    END IF;
END $$;
COMMENT ON FUNCTION check_rebuild IS 'Refuses as a rebuild what is not the same recipe, rows, seed and mark in another environment.';

CREATE OR REPLACE FUNCTION guard_release() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    SELECT environment ->> 'scikit-learn' INTO NEW.fitted_by FROM versions WHERE id = NEW.to_version;
    IF NEW.kind IN ('publish', 'rebuild') THEN
        PERFORM check_still_read(NEW.to_version);
    END IF;
    IF NEW.kind = 'rebuild' THEN
        PERFORM check_rebuild(NEW.to_version, NEW.from_version);
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
    IF NEW.kind IN ('publish', 'rebuild') AND NEW.run_id IS NOT NULL AND NOT FOUND THEN
        RAISE EXCEPTION '%/% is not, or no longer, to be decided in run %', NEW.model, NEW.country, NEW.run_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION guard_outcome() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'the outcome of %/% in run % is final', OLD.model, OLD.country, OLD.run_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> 'published' AND EXISTS (
        SELECT FROM releases
        WHERE (model, country, run_id) = (NEW.model, NEW.country, NEW.run_id) AND kind IN ('publish', 'rebuild')) THEN
        RAISE EXCEPTION 'run % has released %/%: that is its outcome', NEW.run_id, NEW.model, NEW.country
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
