-- What a verdict is judged by is part of its question; and attempts that ended for no reason of their cell's.

ALTER TABLE verdicts ADD COLUMN criteria text NOT NULL DEFAULT '';
COMMENT ON COLUMN verdicts.criteria IS 'Hash of the gate and the metric it was judged by; empty where that was not recorded yet.';
ALTER TABLE verdicts DROP CONSTRAINT verdicts_question_key;
ALTER TABLE verdicts ADD CONSTRAINT verdicts_question_key
    UNIQUE (challenger, against_seq, window_start, window_end, as_first, criteria);

ALTER TABLE attempts ADD COLUMN is_acquitted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN attempts.is_acquitted IS 'It was told to stop, or the registry went away: it counts neither as a try nor as a death.';

CREATE INDEX runs_open ON runs (fleet, planned_at) WHERE finished_at IS NULL;
