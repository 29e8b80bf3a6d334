-- What is asked at each cell or cycle is found by an index, however long the past is.

-- The queue of a run: its cells by cost, and those of a source and country by cost.
DROP INDEX outcomes_pending;
CREATE INDEX outcomes_queue ON outcomes (run_id, cost DESC, model, country) WHERE state = 'pending';
CREATE INDEX outcomes_near ON outcomes (run_id, source, country, cost DESC, model) WHERE state = 'pending';

CREATE INDEX outcomes_trained ON outcomes (model, country, decided_at DESC) INCLUDE (seconds)
    WHERE seconds IS NOT NULL AND state IN ('published', 'kept', 'inconclusive', 'blocked');
CREATE INDEX outcomes_of_verdict ON outcomes (verdict) WHERE verdict IS NOT NULL;
CREATE INDEX releases_of_verdict ON releases (verdict) WHERE verdict IS NOT NULL;
CREATE INDEX releases_of_run ON releases (run_id, model, country) WHERE run_id IS NOT NULL;
CREATE INDEX attempts_unfinished ON attempts (model, country, started_at DESC) WHERE finished_at IS NULL;

DROP INDEX batches_undecided;
CREATE INDEX batches_undecided ON batches (source, country, seq) WHERE state = 'landed';
CREATE INDEX batches_newest ON batches (source, event_max DESC) WHERE state = 'accepted';
CREATE INDEX batches_decided ON batches (source, decided_at) WHERE state = 'accepted';
CREATE INDEX announcements_newest ON announcements (asset, announced_at DESC);

CREATE VIEW settled_verdicts AS
SELECT v.* FROM verdicts AS v
WHERE decision <> 'promote'
   OR (SELECT count(*) FROM releases AS r WHERE r.verdict = v.id) > 0
   OR (SELECT count(*) FROM outcomes AS o WHERE o.verdict = v.id) > 0;
COMMENT ON VIEW settled_verdicts IS 'Verdicts that came to an end: a promotion without a release or outcome is asked again.';

CREATE FUNCTION cells_released(models text[]) RETURNS TABLE (model text, country text) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE cells AS (
        SELECT of.model, (SELECT min(r.country) FROM releases AS r WHERE r.model = of.model) AS country
        FROM unnest(models) AS of (model)
        UNION ALL
        SELECT c.model, (SELECT min(r.country) FROM releases AS r WHERE r.model = c.model AND r.country > c.country)
        FROM cells AS c WHERE c.country IS NOT NULL)
    SELECT cells.model, cells.country FROM cells WHERE cells.country IS NOT NULL
$$;
COMMENT ON FUNCTION cells_released IS 'Cells of some models that ever had a release: one look at the primary key for each, none at their releases.';

CREATE FUNCTION countries_landed(wanted text) RETURNS TABLE (country text) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE countries AS (
        SELECT (SELECT min(b.country) FROM batches AS b WHERE b.source = wanted) AS country
        UNION ALL
        SELECT (SELECT min(b.country) FROM batches AS b WHERE b.source = wanted AND b.country > c.country)
        FROM countries AS c WHERE c.country IS NOT NULL)
    SELECT countries.country FROM countries WHERE countries.country IS NOT NULL
$$;
COMMENT ON FUNCTION countries_landed IS 'Countries of a source: one look at the primary key for each, none at their batches.';
