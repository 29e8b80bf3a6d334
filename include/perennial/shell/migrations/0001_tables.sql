-- The ledger and the registry. What the database can keep true by itself, it keeps.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: its rows never change', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE TABLE cursors (
    source   text PRIMARY KEY,
    position timestamptz NOT NULL,
    clock    timestamptz NOT NULL
);
COMMENT ON TABLE cursors IS 'Per source: up to which changed_at (exclusive) it has landed, and the source''s own clock then.';

CREATE TABLE batches (
    source         text        NOT NULL,
    country        text        NOT NULL,
    seq            integer     NOT NULL CHECK (seq > 0),
    lower          timestamptz NOT NULL,
    upper          timestamptz NOT NULL CHECK (upper > lower),
    previous_seq   integer GENERATED ALWAYS AS (CASE WHEN seq > 1 THEN seq - 1 END) STORED,
    previous_upper timestamptz CHECK (lower >= previous_upper),
    rows           bigint      NOT NULL CHECK (rows > 0),
    event_min      timestamptz NOT NULL,
    event_max      timestamptz NOT NULL CHECK (event_max >= event_min),
    object_key     text        NOT NULL,
    sha256         char(64)    NOT NULL,
    size           bigint      NOT NULL,
    state          text        NOT NULL DEFAULT 'landed'
                   CHECK (state IN ('landed', 'accepted', 'quarantined', 'retracted')),
    reason         text        NOT NULL DEFAULT '',
    report         jsonb       NOT NULL DEFAULT '[]',
    landed_at      timestamptz NOT NULL DEFAULT now(),
    decided_at     timestamptz,
    PRIMARY KEY (source, country, seq),
    UNIQUE (source, country, seq, upper),
    CHECK ((seq = 1) = (previous_upper IS NULL)),
    FOREIGN KEY (source, country, previous_seq, previous_upper) REFERENCES batches (source, country, seq, upper)
);
COMMENT ON TABLE batches IS 'The ledger: one extraction of one source for one country. The chain of uppers keeps intervals from overlapping.';
CREATE INDEX batches_undecided ON batches (source) WHERE state = 'landed';

CREATE FUNCTION guard_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (to_jsonb(OLD) - '{state,reason,report,decided_at,previous_seq}'::text[])
       <> (to_jsonb(NEW) - '{state,reason,report,decided_at,previous_seq}'::text[]) THEN
        RAISE EXCEPTION 'batch %/% % is immutable once landed', OLD.source, OLD.country, OLD.seq
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('landed', 'accepted'), ('landed', 'quarantined'), ('quarantined', 'accepted'), ('accepted', 'retracted')) THEN
        RAISE EXCEPTION 'batch %/% % cannot go from % to %', OLD.source, OLD.country, OLD.seq, OLD.state, NEW.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_batch BEFORE UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION guard_batch();
CREATE TRIGGER keep_batches BEFORE DELETE OR TRUNCATE ON batches FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE snapshots (
    id           char(64) PRIMARY KEY,
    source       text        NOT NULL,
    country      text        NOT NULL,
    last_seq     integer     NOT NULL,
    excluded     integer[]   NOT NULL,
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    rows         bigint      NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (source, country, last_seq) REFERENCES batches (source, country, seq)
);

CREATE TABLE recipes (
    hash       char(64) PRIMARY KEY,
    source     text        NOT NULL,
    parameters jsonb       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE versions (
    id           char(64) PRIMARY KEY,
    model        text        NOT NULL,
    country      text        NOT NULL,
    snapshot     char(64)    NOT NULL REFERENCES snapshots,
    recipe       char(64)    NOT NULL REFERENCES recipes,
    parameters   jsonb       NOT NULL,
    seed         integer     NOT NULL,
    environment  jsonb       NOT NULL,
    metrics      jsonb       NOT NULL,
    judged_until timestamptz NOT NULL,
    served_until timestamptz,
    artifact_key text,
    sha256       char(64),
    size         bigint,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, model, country),
    CHECK (num_nonnulls(artifact_key, sha256, size, served_until) IN (0, 4))
);
COMMENT ON TABLE versions IS 'One trained model: id is the hash of its inputs, sha256 that of its manifest. Only promoted ones have an artifact.';

CREATE FUNCTION guard_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.artifact_key IS NOT NULL
       OR (to_jsonb(OLD) - '{artifact_key,sha256,size,served_until}'::text[])
          <> (to_jsonb(NEW) - '{artifact_key,sha256,size,served_until}'::text[]) THEN
        RAISE EXCEPTION 'version % is immutable', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_version BEFORE UPDATE ON versions FOR EACH ROW EXECUTE FUNCTION guard_version();

CREATE TABLE verdicts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    challenger   char(64)    NOT NULL,
    model        text        NOT NULL,
    country      text        NOT NULL,
    against_seq  integer     NOT NULL CHECK (against_seq >= 0),
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    as_of        timestamptz NOT NULL,
    rows         bigint      NOT NULL,
    clusters     integer     NOT NULL,
    decision     text        NOT NULL CHECK (decision IN ('promote', 'keep', 'inconclusive')),
    gates        jsonb       NOT NULL,
    reason       text        NOT NULL,
    decided_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (challenger, against_seq, window_start, window_end),
    UNIQUE (id, challenger, against_seq, decision),
    FOREIGN KEY (challenger, model, country) REFERENCES versions (id, model, country)
);
CREATE INDEX verdicts_by_cell ON verdicts (model, country, id DESC);

CREATE TABLE blockers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model      text        NOT NULL,
    country    text        NOT NULL,
    version    char(64) REFERENCES versions,
    kind       text        NOT NULL CHECK (kind IN ('hold', 'approval', 'brake', 'shadow', 'wave')),
    person     text        NOT NULL,
    reason     text        NOT NULL,
    until      timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    lifted_by  text,
    lifted_at  timestamptz,
    CHECK ((lifted_by IS NULL) = (lifted_at IS NULL))
);
CREATE INDEX blockers_in_force ON blockers (model, country) WHERE lifted_at IS NULL;

CREATE TABLE releases (
    model            text        NOT NULL,
    country          text        NOT NULL,
    seq              integer     NOT NULL CHECK (seq > 0),
    from_version     char(64),
    to_version       char(64)    NOT NULL,
    kind             text        NOT NULL CHECK (kind IN ('publish', 'rollback', 'undo')),
    verdict          bigint,
    person           text,
    reason           text        NOT NULL,
    run_id           text,
    released_at      timestamptz NOT NULL DEFAULT now(),
    previous_seq     integer GENERATED ALWAYS AS (CASE WHEN seq > 1 THEN seq - 1 END) STORED,
    against_seq      integer GENERATED ALWAYS AS (seq - 1) STORED,
    verdict_decision text GENERATED ALWAYS AS (CASE WHEN kind = 'publish' THEN 'promote' END) STORED,
    PRIMARY KEY (model, country, seq),
    UNIQUE (model, country, seq, to_version),
    CHECK ((seq = 1) = (from_version IS NULL)),
    CHECK (seq > 1 OR kind = 'publish'),
    CHECK (CASE WHEN kind = 'publish' THEN verdict IS NOT NULL ELSE person IS NOT NULL END),
    FOREIGN KEY (model, country, previous_seq, from_version) REFERENCES releases (model, country, seq, to_version),
    FOREIGN KEY (to_version, model, country) REFERENCES versions (id, model, country),
    FOREIGN KEY (verdict, to_version, against_seq, verdict_decision)
        REFERENCES verdicts (id, challenger, against_seq, decision)
);
COMMENT ON TABLE releases IS 'Every move of a champion. A row''s number and "from" must follow the row before: one INSERT is compare-and-swap.';

CREATE FUNCTION guard_release() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
    RETURN NEW;
END $$;
CREATE TRIGGER guard_release BEFORE INSERT ON releases FOR EACH ROW EXECUTE FUNCTION guard_release();

CREATE TABLE runs (
    id          text PRIMARY KEY,
    fleet       text        NOT NULL,
    requested   jsonb       NOT NULL,
    as_of       jsonb       NOT NULL,
    planned_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX runs_by_fleet ON runs (fleet, planned_at DESC);

CREATE TABLE outcomes (
    run_id      text             NOT NULL REFERENCES runs,
    model       text             NOT NULL,
    country     text             NOT NULL,
    source      text             NOT NULL,
    cost        double precision NOT NULL,
    state       text             NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'published', 'kept', 'inconclusive', 'blocked', 'failed', 'skipped')),
    reason      text             NOT NULL DEFAULT '',
    version     char(64) REFERENCES versions,
    verdict     bigint REFERENCES verdicts,
    release_seq integer,
    seconds     double precision,
    decided_at  timestamptz,
    PRIMARY KEY (run_id, model, country),
    CHECK ((state = 'pending') = (decided_at IS NULL)),
    CHECK ((state = 'published') = (release_seq IS NOT NULL)),
    FOREIGN KEY (model, country, release_seq) REFERENCES releases (model, country, seq)
);
CREATE INDEX outcomes_pending ON outcomes (run_id) WHERE state = 'pending';
CREATE INDEX outcomes_by_cell ON outcomes (model, country, decided_at DESC);

CREATE FUNCTION guard_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'the outcome of %/% in run % is final', OLD.model, OLD.country, OLD.run_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_outcome BEFORE UPDATE ON outcomes FOR EACH ROW EXECUTE FUNCTION guard_outcome();

CREATE TABLE attempts (
    run_id      text        NOT NULL,
    model       text        NOT NULL,
    country     text        NOT NULL,
    attempt     integer     NOT NULL CHECK (attempt > 0),
    worker      text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    error       text,
    timings     jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, model, country, attempt),
    FOREIGN KEY (run_id, model, country) REFERENCES outcomes
);
COMMENT ON TABLE attempts IS 'Recorded when they start: one that never finished and whose lock is free died with its process.';

CREATE TABLE observations (
    model        text        NOT NULL,
    country      text        NOT NULL,
    version      char(64)    NOT NULL REFERENCES versions,
    role         text        NOT NULL CHECK (role IN ('champion', 'predecessor', 'shadow')),
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    measure      text        NOT NULL,
    value        double precision NOT NULL,
    rows         bigint      NOT NULL,
    observed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, country, version, measure, window_start, window_end)
);

CREATE TABLE announcements (
    asset        text        NOT NULL,
    item         text        NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (asset, item)
);
COMMENT ON TABLE announcements IS 'Which ledger rows the wake-up call of an asset has covered.';

DO $$
DECLARE kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['snapshots', 'recipes', 'verdicts', 'releases', 'observations'] LOOP
        EXECUTE format('CREATE TRIGGER keep_%1$s BEFORE UPDATE OR DELETE OR TRUNCATE ON %1$I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept);
    END LOOP;
    FOREACH kept IN ARRAY ARRAY['versions', 'runs', 'outcomes', 'attempts'] LOOP
        EXECUTE format('CREATE TRIGGER keep_%1$s BEFORE DELETE OR TRUNCATE ON %1$I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', kept);
    END LOOP;
END $$;
