-- Why cells of a run's request are not among its planned ones.

ALTER TABLE runs ADD COLUMN left_out jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN runs.left_out IS 'By reason: how many cells were not planned for it, and the first of them. The plan''s log names all.';
