-- What owners are told.

CREATE TABLE messages (
    run_id     text        NOT NULL,
    fleet      text        NOT NULL,
    owner      text        NOT NULL,
    tier       integer     NOT NULL,
    subject    text        NOT NULL,
    body       text        NOT NULL,
    state      text        NOT NULL DEFAULT 'pending'
               CHECK (state IN ('pending', 'sent', 'failed', 'nobody to tell')),
    reached    text[]      NOT NULL DEFAULT '{}',
    attempts   integer     NOT NULL DEFAULT 0,
    error      text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz,
    PRIMARY KEY (run_id, owner),
    CHECK ((state = 'sent') = (sent_at IS NOT NULL))
);
COMMENT ON TABLE messages IS 'One message per run and owner. A run may lack its row in runs: its plan failed. Addresses may hold tokens and are not kept.';
CREATE INDEX messages_waiting ON messages (fleet) WHERE state = 'pending';

CREATE FUNCTION guard_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'the message to % of run % is %, which is final', OLD.owner, OLD.run_id, OLD.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_message BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION guard_message();
