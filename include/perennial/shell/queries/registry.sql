-- champion_of: the last release of a cell
SELECT r.seq, r.to_version AS version, v.recipe, v.parameters, v.judged_until, a.artifact_key, a.sha256, v.snapshot,
       r.released_at, r.fitted_by,
       ARRAY(SELECT m.read_by FROM manifests AS m WHERE m.version = v.id AND m.read_by IS NOT NULL) AS read_by,
       (SELECT deployment::text FROM generations ORDER BY number DESC LIMIT 1) AS deployment
FROM releases AS r JOIN versions AS v ON v.id = r.to_version LEFT JOIN artifacts AS a ON a.version = v.id
WHERE r.model = %(model)s AND r.country = %(country)s ORDER BY r.seq DESC LIMIT 1;

-- cells_of: every cell of some models that ever had a release
SELECT model, country FROM cells_released(%(models)s) ORDER BY model, country;

-- recipes_in_force: recipes of champions and of the versions a rollback would return to
SELECT DISTINCT v.model, v.recipe, r.source, r.parameters
FROM cells_released(ARRAY[%(model)s]) AS c
CROSS JOIN LATERAL (
    SELECT from_version, to_version FROM releases
    WHERE model = c.model AND country = c.country ORDER BY seq DESC LIMIT 1) AS last
CROSS JOIN LATERAL (SELECT * FROM versions WHERE id IN (last.to_version, last.from_version) LIMIT 2) AS v
JOIN recipes AS r ON r.hash = v.recipe;

-- add_recipe: a recipe's source and parameters, for audit
INSERT INTO recipes (hash, source, parameters) VALUES (%(hash)s, %(source)s, %(parameters)s) ON CONFLICT DO NOTHING;

-- add_version: a trained model; the first row of an id wins
INSERT INTO versions (id, model, country, snapshot, recipe, parameters, seed, environment, metrics, judged_until)
VALUES (%(id)s, %(model)s, %(country)s, %(snapshot)s, %(recipe)s, %(parameters)s, %(seed)s, %(environment)s, %(metrics)s,
        %(judged_until)s)
ON CONFLICT DO NOTHING;

-- add_artifact: where a promoted version's manifest lies; the first one wins
UPDATE versions SET artifact_key = %(artifact_key)s, sha256 = %(sha256)s, size = %(size)s, served_until = %(served_until)s
WHERE id = %(id)s AND artifact_key IS NULL;

-- artifact_of: where a version's manifest in force lies
SELECT version, artifact_key, sha256, size,
       (SELECT deployment::text FROM generations ORDER BY number DESC LIMIT 1) AS deployment
FROM artifacts WHERE version = %(id)s;

-- add_manifest: a further manifest of a version, in force from now on, if the one it follows still is
INSERT INTO manifests (version, number, kind, artifact_key, sha256, size, read_by)
SELECT version, number + 1, %(kind)s, %(artifact_key)s, %(sha256)s, %(size)s, %(read_by)s
FROM artifacts WHERE version = %(id)s AND sha256 = %(follows)s
ON CONFLICT DO NOTHING;

-- deployment_of: whose registry this is, and its generation
SELECT deployment::text AS deployment, number AS generation FROM generations ORDER BY number DESC LIMIT 1;

-- raise_generation: a later generation of the registry, numbered by the clock; on disk before any pointer names it
WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true)),
last AS (SELECT number, deployment FROM generations ORDER BY number DESC LIMIT 1)
INSERT INTO generations (number, deployment, reason)
SELECT greatest(last.number, %(beyond)s, extract(epoch FROM clock_timestamp())::bigint - 1) + 1,
       CASE WHEN %(is_copy)s THEN gen_random_uuid() ELSE last.deployment END, %(reason)s
FROM last CROSS JOIN durable
ON CONFLICT DO NOTHING;

-- version_released: which version a release of a cell put in force
SELECT to_version AS version FROM releases WHERE model = %(model)s AND country = %(country)s AND seq = %(seq)s;

-- add_verdict: one judgement of a challenger against a release, by a gate and a metric
INSERT INTO verdicts (challenger, model, country, against_seq, window_start, window_end, as_of, rows, clusters, decision,
                      gates, scores, reason, as_first, criteria)
VALUES (%(challenger)s, %(model)s, %(country)s, %(against_seq)s, %(window_start)s, %(window_end)s, %(as_of)s, %(rows)s,
        %(clusters)s, %(decision)s, %(gates)s, %(scores)s, %(reason)s, %(as_first)s, %(criteria)s)
ON CONFLICT (challenger, against_seq, window_start, window_end, as_first, criteria) DO NOTHING
RETURNING id;

-- verdict_of: the recorded judgement of a challenger over a window, by a gate and a metric
SELECT id FROM verdicts WHERE challenger = %(challenger)s AND against_seq = %(against_seq)s
  AND window_start = %(window_start)s AND window_end = %(window_end)s AND as_first = %(as_first)s
  AND criteria = %(criteria)s;

-- last_verdict: what a cell was last asked, and what it had seen; a promotion that came to no end is asked again
SELECT id, window_end, as_of, against_seq, rows, decision, scores, reason FROM settled_verdicts
WHERE model = %(model)s AND country = %(country)s ORDER BY id DESC LIMIT 1;

-- publish: the one statement that moves a champion, to the number judged against plus one; on disk before anyone is told
WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))
INSERT INTO releases (model, country, seq, from_version, to_version, kind, verdict, reason, run_id)
SELECT %(model)s, %(country)s, %(against_seq)s + 1, %(from_version)s, %(to_version)s, 'publish', %(verdict)s, %(reason)s,
       %(run_id)s
FROM durable;

-- former_champions: a cell's versions before the champion, the last first; not those that were taken back or lost
SELECT r.seq, r.to_version AS version, v.recipe, v.parameters, a.artifact_key, a.sha256,
       (SELECT deployment::text FROM generations ORDER BY number DESC LIMIT 1) AS deployment
FROM releases AS r JOIN versions AS v ON v.id = r.to_version JOIN artifacts AS a ON a.version = v.id
WHERE r.model = %(model)s AND r.country = %(country)s AND r.seq < %(seq)s AND r.to_version <> %(version)s
  AND NOT EXISTS (SELECT FROM releases AS back
                  WHERE back.model = r.model AND back.country = r.country AND back.from_version = r.to_version
                    AND back.kind NOT IN ('publish', 'rebuild'))
ORDER BY r.seq DESC LIMIT 10;

-- fall_back: a former champion takes over from one that was lost; on disk before any pointer names it
WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))
INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason)
SELECT %(model)s, %(country)s, %(against_seq)s + 1, %(from_version)s, %(to_version)s, 'fallback', 'perennial', %(reason)s
FROM durable;

-- last_by_library: before a release, the last one of a cell that each other scikit-learn fitted and nobody took back
WITH RECURSIVE libraries AS (
    SELECT (SELECT min(r.fitted_by) FROM releases AS r
            WHERE r.model = %(model)s AND r.country = %(country)s) AS fitted_by
    UNION ALL
    SELECT (SELECT min(r.fitted_by) FROM releases AS r
            WHERE r.model = %(model)s AND r.country = %(country)s AND r.fitted_by > l.fitted_by)
    FROM libraries AS l WHERE l.fitted_by IS NOT NULL)
SELECT last.seq, last.to_version AS version, a.artifact_key, a.sha256,
       (SELECT deployment::text FROM generations ORDER BY number DESC LIMIT 1) AS deployment
FROM libraries AS l CROSS JOIN LATERAL (
    SELECT r.seq, r.to_version FROM releases AS r
    WHERE r.model = %(model)s AND r.country = %(country)s AND r.fitted_by = l.fitted_by AND r.seq <= %(seq)s
      AND NOT EXISTS (SELECT FROM releases AS back
                      WHERE back.model = r.model AND back.country = r.country AND back.seq = r.seq + 1
                        AND back.kind IN ('rollback', 'undo', 'fallback'))
    ORDER BY r.seq DESC LIMIT 1) AS last
JOIN artifacts AS a ON a.version = last.to_version
WHERE last.seq < %(seq)s ORDER BY last.seq DESC LIMIT 5;

-- bound_elsewhere: of some cells, those whose champion another scikit-learn fitted that is not shown to be read by this one
SELECT c.model, c.country, last.seq, last.fitted_by, refused.reason AS refusal
FROM unnest(%(models)s::text[], %(countries)s::text[]) AS c (model, country)
CROSS JOIN LATERAL (
    SELECT r.seq, r.to_version, r.fitted_by FROM releases AS r
    WHERE r.model = c.model AND r.country = c.country ORDER BY r.seq DESC LIMIT 1) AS last
LEFT JOIN rebuilds_refused AS refused
    ON refused.model = c.model AND refused.country = c.country AND refused.seq = last.seq
       AND refused.scikit_learn = %(scikit_learn)s
WHERE last.fitted_by <> %(scikit_learn)s
  AND NOT EXISTS (SELECT FROM manifests AS m WHERE m.version = last.to_version AND m.read_by = %(scikit_learn)s)
ORDER BY c.model, c.country;

-- inputs_of: what a version was made of, and whether its batches are read as they were
SELECT v.seed, v.judged_until, v.served_until, (v.metrics ->> 'train_rows')::integer AS train_rows,
       coalesce((v.metrics ->> 'span_start')::timestamptz,
                (SELECT w.window_start FROM verdicts AS w WHERE w.challenger = v.id LIMIT 1)) AS span_start,
       s.source, s.country, s.last_seq, s.excluded, s.window_start, s.window_end, s.known_until,
       unread_of(s.source, s.country, 1, s.last_seq) = s.excluded AS is_read_alike
FROM versions AS v JOIN snapshots AS s ON s.id = v.snapshot WHERE v.id = %(id)s;

-- rebuild: the champion, fitted again by another scikit-learn, takes its place; on disk before any pointer names it
WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))
INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason, run_id)
SELECT %(model)s, %(country)s, %(against_seq)s + 1, %(from_version)s, %(to_version)s, 'rebuild', 'perennial', %(reason)s,
       %(run_id)s
FROM durable;

-- add_rebuilt_version: a version's recipe, rows and seed in another environment; the first row of an id wins
INSERT INTO versions (id, model, country, snapshot, recipe, parameters, seed, environment, metrics, judged_until)
SELECT %(id)s, model, country, snapshot, recipe, parameters, seed, %(environment)s, %(metrics)s, judged_until
FROM versions WHERE id = %(former)s
ON CONFLICT DO NOTHING;

-- refuse_rebuild: why a champion is not rebuilt for a scikit-learn; the last reason counts
INSERT INTO rebuilds_refused (model, country, seq, scikit_learn, reason)
VALUES (%(model)s, %(country)s, %(seq)s, %(scikit_learn)s, %(reason)s)
ON CONFLICT (model, country, seq, scikit_learn) DO UPDATE SET reason = excluded.reason, noticed_at = now();

-- add_lost_champion: a champion whose artifact is missing or altered
INSERT INTO lost_champions (model, country, seq, reason) VALUES (%(model)s, %(country)s, %(seq)s, %(reason)s)
ON CONFLICT DO NOTHING;

-- found_champion: a champion can be read, again or still
DELETE FROM lost_champions WHERE model = %(model)s AND country = %(country)s AND seq = %(seq)s;

-- cells_without_champion: of some cells, those whose champion is lost
SELECT l.model, l.country FROM unnest(%(models)s::text[], %(countries)s::text[]) AS c (model, country)
JOIN lost_champions AS l ON l.model = c.model AND l.country = c.country
WHERE l.seq = (SELECT max(r.seq) FROM releases AS r WHERE r.model = l.model AND r.country = l.country);

-- release_of_run: what a run has already released for a cell
SELECT seq, to_version AS version, verdict, reason FROM releases
WHERE model = %(model)s AND country = %(country)s AND run_id = %(run_id)s;

-- unannounced_releases: moves not covered by a wake-up call: a cell's last ones, as each call covers all there are
WITH RECURSIVE moves AS (
    SELECT last.* FROM cells_released(%(models)s) AS c
    CROSS JOIN LATERAL (
        SELECT r.model, r.country, r.seq, r.to_version FROM releases AS r
        WHERE r.model = c.model AND r.country = c.country ORDER BY r.seq DESC LIMIT 1) AS last
    WHERE (SELECT count(*) FROM announcements AS a
           WHERE a.asset = %(asset)s AND a.item = last.model || '/' || last.country || '/' || last.seq) = 0
    UNION ALL
    SELECT earlier.* FROM moves AS m
    CROSS JOIN LATERAL (
        SELECT r.model, r.country, r.seq, r.to_version FROM releases AS r
        WHERE r.model = m.model AND r.country = m.country AND r.seq = m.seq - 1 LIMIT 1) AS earlier
    WHERE (SELECT count(*) FROM announcements AS a
           WHERE a.asset = %(asset)s AND a.item = earlier.model || '/' || earlier.country || '/' || earlier.seq) = 0)
SELECT model, country, seq, to_version AS version FROM moves ORDER BY model, country, seq;

-- hold: keep a cell from being published
INSERT INTO blockers (model, country, version, kind, person, reason, until)
VALUES (%(model)s, %(country)s, %(version)s, %(kind)s, %(person)s, %(reason)s, %(until)s);

-- blockers_of: what keeps a cell from being published
SELECT kind, person, reason, until FROM blockers
WHERE model = %(model)s AND country = %(country)s AND lifted_at IS NULL AND (until IS NULL OR until > now()) ORDER BY id;
