-- What a training reads of a country's ledger is found by an index: the batches of its window, and those not to be read.

CREATE INDEX batches_excluded ON batches (source, country, seq) WHERE state <> 'accepted';
CREATE INDEX batches_by_window ON batches (source, country, event_max) WHERE state = 'accepted';

-- A fresh batch of one country is trained on before the other countries' cells are looked at.
ALTER TABLE outcomes ADD COLUMN fresh boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN outcomes.fresh IS 'The country had rows accepted since the fleet''s last plan: such cells go first.';
DROP INDEX outcomes_queue;
CREATE INDEX outcomes_queue ON outcomes (run_id, fresh DESC, cost DESC, model, country) WHERE state = 'pending';
