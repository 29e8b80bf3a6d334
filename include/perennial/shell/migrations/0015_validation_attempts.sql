-- A batch that ends the process it is validated in, or never gets done, is set aside after its second time, like a cell.

CREATE TABLE batch_attempts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text        NOT NULL,
    country     text        NOT NULL,
    seq         integer     NOT NULL,
    worker      text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    ended       text        NOT NULL DEFAULT '',
    FOREIGN KEY (source, country, seq) REFERENCES batches (source, country, seq)
);
COMMENT ON TABLE batch_attempts IS 'Each try to validate a batch. One that never finished ended with its process: was it the only one that process had open, then by this batch.';
COMMENT ON COLUMN batch_attempts.worker IS 'The process: its host, its parent, and a number of its own.';
COMMENT ON COLUMN batch_attempts.ended IS 'How the process ended, where it ended before the attempt.';
CREATE INDEX batch_attempts_by_batch ON batch_attempts (source, country, seq);
CREATE INDEX batch_attempts_unfinished ON batch_attempts (source, country, seq) WHERE finished_at IS NULL;
CREATE INDEX batch_attempts_of_worker ON batch_attempts (worker) WHERE finished_at IS NULL;
