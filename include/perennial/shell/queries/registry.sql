-- champion_of: the last release of a cell
SELECT r.seq, r.to_version AS version, v.recipe, v.judged_until, v.artifact_key, v.sha256, v.snapshot, r.released_at
FROM releases AS r JOIN versions AS v ON v.id = r.to_version
WHERE r.model = %(model)s AND r.country = %(country)s ORDER BY r.seq DESC LIMIT 1;

-- champions: the last release of every cell of some models
SELECT DISTINCT ON (r.model, r.country) r.model, r.country, r.seq, r.to_version AS version, v.recipe, v.artifact_key, v.sha256
FROM releases AS r JOIN versions AS v ON v.id = r.to_version
WHERE r.model = ANY(%(models)s) ORDER BY r.model, r.country, r.seq DESC;

-- recipes_in_force: recipes of champions and of the versions a rollback would return to
SELECT DISTINCT v.model, v.recipe, c.source
FROM releases AS r JOIN versions AS v ON v.id IN (r.to_version, r.from_version) JOIN recipes AS c ON c.hash = v.recipe
WHERE r.model = %(model)s AND NOT EXISTS (
    SELECT FROM releases AS later WHERE later.model = r.model AND later.country = r.country AND later.seq > r.seq);

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

-- artifact_of: where a version's manifest lies
SELECT artifact_key, sha256 FROM versions WHERE id = %(id)s;

-- add_verdict: one judgement of a challenger against a release
INSERT INTO verdicts (challenger, model, country, against_seq, window_start, window_end, as_of, rows, clusters, decision,
                      gates, scores, reason)
VALUES (%(challenger)s, %(model)s, %(country)s, %(against_seq)s, %(window_start)s, %(window_end)s, %(as_of)s, %(rows)s,
        %(clusters)s, %(decision)s, %(gates)s, %(scores)s, %(reason)s)
ON CONFLICT (challenger, against_seq, window_start, window_end) DO NOTHING
RETURNING id;

-- verdict_of: the recorded judgement of a challenger over a window
SELECT id FROM verdicts WHERE challenger = %(challenger)s AND against_seq = %(against_seq)s
  AND window_start = %(window_start)s AND window_end = %(window_end)s;

-- last_verdict: what a cell was last asked, and what it had seen; a promotion that came to no end is asked again
SELECT id, challenger, window_end, as_of, against_seq, rows, decision, scores, reason, decided_at FROM verdicts AS v
WHERE model = %(model)s AND country = %(country)s AND (
    decision <> 'promote'
    OR EXISTS (SELECT FROM releases AS r WHERE (r.model, r.country, r.verdict) = (v.model, v.country, v.id))
    OR EXISTS (SELECT FROM outcomes AS o WHERE (o.model, o.country, o.verdict) = (v.model, v.country, v.id)))
ORDER BY id DESC LIMIT 1;

-- publish: the one statement that moves a champion; its number is the one the verdict was judged against, plus one
INSERT INTO releases (model, country, seq, from_version, to_version, kind, verdict, reason, run_id)
VALUES (%(model)s, %(country)s, %(against_seq)s + 1, %(from_version)s, %(to_version)s, 'publish', %(verdict)s, %(reason)s,
        %(run_id)s);

-- release_of_run: what a run has already released for a cell
SELECT seq, to_version AS version, verdict, reason FROM releases
WHERE model = %(model)s AND country = %(country)s AND run_id = %(run_id)s;

-- unannounced_releases: moves not covered by a wake-up call
SELECT model, country, seq, to_version AS version FROM releases AS r
WHERE model = ANY(%(models)s) AND NOT EXISTS (
    SELECT FROM announcements AS a
    WHERE a.asset = %(asset)s AND a.item = r.model || '/' || r.country || '/' || r.seq)
ORDER BY model, country, seq;

-- hold: keep a cell from being published
INSERT INTO blockers (model, country, version, kind, person, reason, until)
VALUES (%(model)s, %(country)s, %(version)s, %(kind)s, %(person)s, %(reason)s, %(until)s);

-- blockers_of: what keeps a cell from being published
SELECT kind, person, reason, until FROM blockers
WHERE model = %(model)s AND country = %(country)s AND lifted_at IS NULL AND (until IS NULL OR until > now()) ORDER BY id;
