-- A verdict keeps its own scores: a version judged against two champions has two gains.

ALTER TABLE verdicts ADD COLUMN scores jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN verdicts.scores IS 'Metric of challenger, champion and naive baseline on the span; gain with its one-sided bounds.';
