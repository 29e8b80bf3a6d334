-- moments_of: the cycles of a fleet in order: each data time a country was retrained at, first planned when, and by which runs
SELECT (as_of -> %(source)s ->> %(country)s)::timestamptz AS as_of, min(planned_at) AS planned_at, array_agg(id) AS runs
FROM runs
WHERE fleet = %(fleet)s AND finished_at IS NOT NULL AND as_of -> %(source)s ? %(country)s
  AND NOT (requested ->> 'dry_run')::boolean
GROUP BY 1 ORDER BY 1;

-- releases_of: every move of a cell, with what a reader needs to load it
SELECT r.seq, r.run_id, r.released_at, r.to_version AS version, v.recipe, a.artifact_key, a.sha256,
       (SELECT deployment::text FROM generations ORDER BY number DESC LIMIT 1) AS deployment
FROM releases AS r JOIN versions AS v ON v.id = r.to_version LEFT JOIN artifacts AS a ON a.version = v.id
WHERE r.model = %(model)s AND r.country = %(country)s ORDER BY r.seq;

-- accepted_batches: a country's accepted batches, and since when
SELECT seq, rows, event_min, event_max, object_key, sha256, decided_at FROM readable
WHERE source = %(source)s AND country = %(country)s AND state = 'accepted' ORDER BY seq;

-- endings_of: how often a cell's runs ended how, and the last reason of each
SELECT state, count(*) AS number, (array_agg(reason ORDER BY decided_at DESC))[1] AS reason, max(decided_at) AS decided_at
FROM outcomes WHERE model = %(model)s AND country = %(country)s AND state <> 'pending'
GROUP BY state ORDER BY max(decided_at) DESC;
