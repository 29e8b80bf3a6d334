-- Owners of sources are notified of what goes wrong with them: of each cause once when it begins, and once when it ends.

ALTER TABLE messages RENAME COLUMN fleet TO scope;
COMMENT ON COLUMN messages.scope IS 'Whose runs deliver it: a fleet''s name, or source/ and the name of a source.';
COMMENT ON TABLE messages IS 'Of a fleet one per run and owner; of a source one for each run that found a cause begun or ended. A run may lack its row in runs. Addresses may hold tokens and are not kept.';
CREATE SEQUENCE message_numbers;

CREATE TABLE causes (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source        text        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN (
                      'ingest failed', 'held back', 'silent', 'batch not validated', 'batch held', 'file refused',
                      'undated rows', 'rows rejected', 'future rows')),
    subject       text        NOT NULL,
    reason        text        NOT NULL CHECK (reason <> ''),
    began_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at      timestamptz CHECK (ended_at >= began_at),
    ending        text        NOT NULL DEFAULT '',
    begin_message text,
    end_message   text,
    UNIQUE (source, kind, subject, began_at),
    CHECK ((ended_at IS NULL) = (ending = '')),
    CHECK (end_message IS NULL OR (ended_at IS NOT NULL AND begin_message IS NOT NULL))
);
COMMENT ON TABLE causes IS 'What owners of sources are notified of. A message is recorded in the transaction that names it here, so there is one of each beginning and end.';
COMMENT ON COLUMN causes.subject IS 'What sets it apart from others of its kind: a country, an error without what varies. The same one again is the same cause while it is open.';
COMMENT ON COLUMN causes.begin_message IS 'The messages.run_id of what the owner was notified with; null: not yet.';
CREATE UNIQUE INDEX causes_open ON causes (source, kind, subject)
    WHERE ended_at IS NULL AND kind NOT IN ('batch not validated', 'batch held', 'file refused');
CREATE INDEX causes_open_of_items ON causes (source, kind, began_at) WHERE ended_at IS NULL;
CREATE INDEX causes_untold ON causes (source) WHERE begin_message IS NULL OR (ended_at IS NOT NULL AND end_message IS NULL);

CREATE TABLE cause_items (
    source text   NOT NULL,
    kind   text   NOT NULL,
    item   text   NOT NULL,
    number integer NOT NULL,
    cause  bigint NOT NULL REFERENCES causes,
    PRIMARY KEY (source, kind, item, number)
);
CREATE INDEX cause_items_of_cause ON cause_items (cause);
COMMENT ON TABLE cause_items IS 'The batches (country and number) or files (name and revision) of a cause: each is in one.';

CREATE FUNCTION guard_cause() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.source, OLD.kind, OLD.subject, OLD.reason, OLD.began_at)
           <> (NEW.source, NEW.kind, NEW.subject, NEW.reason, NEW.began_at)
       OR (OLD.ended_at IS NOT NULL AND (OLD.ended_at, OLD.ending) IS DISTINCT FROM (NEW.ended_at, NEW.ending))
       OR (OLD.begin_message IS NOT NULL AND OLD.begin_message IS DISTINCT FROM NEW.begin_message)
       OR (OLD.end_message IS NOT NULL AND OLD.end_message IS DISTINCT FROM NEW.end_message) THEN
        RAISE EXCEPTION 'cause % of source % is on record: what was notified of it stays', OLD.id, OLD.source
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_cause BEFORE UPDATE ON causes FOR EACH ROW EXECUTE FUNCTION guard_cause();
CREATE TRIGGER keep_causes BEFORE DELETE OR TRUNCATE ON causes FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_cause_items BEFORE UPDATE OR DELETE OR TRUNCATE ON cause_items
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- When a source was silent for three hours or more: from that it is known how long it may be.
CREATE INDEX batches_by_arrival ON batches (source, landed_at) WHERE replaces_seq IS NULL;
CREATE TABLE pauses (
    source   text        NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (source, ended_at),
    CHECK (ended_at - began_at >= interval '3 hours')
);
COMMENT ON TABLE pauses IS 'Times of three hours and more between two landings of a source, by this database''s clock. What replaces a batch did not arrive then.';

CREATE FUNCTION note_pause() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO pauses (source, began_at, ended_at)
    SELECT NEW.source, last.landed_at, NEW.landed_at
    FROM (SELECT b.landed_at FROM batches AS b
          WHERE b.source = NEW.source AND b.replaces_seq IS NULL AND b.landed_at < NEW.landed_at
          ORDER BY b.landed_at DESC LIMIT 1) AS last
    WHERE NEW.landed_at - last.landed_at >= interval '3 hours'
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER note_pause AFTER INSERT ON batches FOR EACH ROW WHEN (NEW.replaces_seq IS NULL)
    EXECUTE FUNCTION note_pause();

INSERT INTO pauses (source, began_at, ended_at)
SELECT source, before, landed_at
FROM (SELECT source, landed_at, lag(landed_at) OVER (PARTITION BY source ORDER BY landed_at) AS before
      FROM (SELECT DISTINCT source, landed_at FROM batches WHERE replaces_seq IS NULL) AS landings) AS gaps
WHERE landed_at - before >= interval '3 hours';

CREATE INDEX batches_held_lately ON batches (source, decided_at) WHERE state = 'quarantined';
CREATE INDEX files_refused ON files (source, seen_at) WHERE state = 'refused';
