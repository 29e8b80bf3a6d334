-- What a training reads of a country's ledger is found by an index: the batches of its window, and those not to be read.

CREATE INDEX batches_excluded ON batches (source, country, seq) WHERE state <> 'accepted';
CREATE INDEX batches_by_window ON batches (source, country, event_max) WHERE state = 'accepted';
