-- A run's outcome and its release tell the same, also when a training outlives the report that closed its run.

CREATE OR REPLACE FUNCTION guard_release() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
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

CREATE OR REPLACE FUNCTION guard_outcome() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'the outcome of %/% in run % is final', OLD.model, OLD.country, OLD.run_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state <> 'published' AND EXISTS (
        SELECT FROM releases
        WHERE (model, country, run_id, kind) = (NEW.model, NEW.country, NEW.run_id, 'publish')) THEN
        RAISE EXCEPTION 'run % has released %/%: that is its outcome', NEW.run_id, NEW.model, NEW.country
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
