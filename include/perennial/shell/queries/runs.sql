-- add_run: a run's plan; planning again changes nothing
INSERT INTO runs (id, fleet, requested, as_of) VALUES (%(id)s, %(fleet)s, %(requested)s, %(as_of)s) ON CONFLICT DO NOTHING;

-- run_of: a run's plan
SELECT id, fleet, requested, as_of, planned_at, finished_at FROM runs WHERE id = %(id)s;

-- add_outcome: a planned cell
INSERT INTO outcomes (run_id, model, country, source, cost)
VALUES (%(run_id)s, %(model)s, %(country)s, %(source)s, %(cost)s) ON CONFLICT DO NOTHING;

-- last_seconds: what each cell's last training took
SELECT DISTINCT ON (model, country) model, country, seconds FROM outcomes
WHERE model = ANY(%(models)s) AND state IN ('published', 'kept', 'inconclusive', 'blocked') AND seconds IS NOT NULL
ORDER BY model, country, decided_at DESC;

-- pending: cells of a run without an outcome, those of a source and country first, then the costliest
SELECT o.model, o.country,
       (SELECT count(*) FROM attempts AS a
        WHERE (a.run_id, a.model, a.country) = (o.run_id, o.model, o.country)) AS attempts
FROM outcomes AS o WHERE o.run_id = %(run_id)s AND o.state = 'pending'
ORDER BY attempts, (o.source, o.country) = (%(source)s, %(near)s) DESC, o.cost DESC, o.model, o.country;

-- lock_cell: a lock that dies with this session
SELECT pg_try_advisory_lock(hashtextextended('perennial cell ' || %(model)s || '/' || %(country)s, 0)) AS locked;

-- unlock_cell: give the cell back
SELECT pg_advisory_unlock(hashtextextended('perennial cell ' || %(model)s || '/' || %(country)s, 0));

-- is_pending: whether a planned cell still has no outcome
SELECT state = 'pending' AS pending FROM outcomes
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s;

-- start_attempt: recorded before anything else is done for the cell
INSERT INTO attempts (run_id, model, country, attempt, worker)
SELECT %(run_id)s, %(model)s, %(country)s, count(*) + 1, %(worker)s FROM attempts
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s
RETURNING attempt;

-- end_attempt: how it went
UPDATE attempts SET finished_at = clock_timestamp(), error = %(error)s, timings = %(timings)s
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND attempt = %(attempt)s;

-- deaths: attempts that never finished; asked while holding the cell's lock, so none of them is alive
SELECT count(*) AS number, max(worker) AS worker FROM attempts
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND finished_at IS NULL;

-- unfinished_attempts_of: what a process that has ended was training in a run
SELECT count(*) AS number FROM attempts WHERE run_id = %(run_id)s AND worker = %(worker)s AND finished_at IS NULL;

-- other_run_training: another run that holds the cell now: the lock is its newest unfinished attempt's
SELECT newest.run_id FROM (
    SELECT a.run_id FROM attempts AS a JOIN outcomes AS o USING (run_id, model, country)
    WHERE a.model = %(model)s AND a.country = %(country)s AND a.finished_at IS NULL AND o.state = 'pending'
    ORDER BY a.started_at DESC LIMIT 1) AS newest
WHERE newest.run_id <> %(run_id)s;

-- decide: a cell's one final outcome
UPDATE outcomes SET state = %(state)s, reason = %(reason)s, version = %(version)s, verdict = %(verdict)s,
                    release_seq = %(release_seq)s, seconds = %(seconds)s, decided_at = clock_timestamp()
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND state = 'pending';

-- finish_run: the report has been made
UPDATE runs SET finished_at = coalesce(finished_at, now()) WHERE id = %(id)s;

-- outcomes_of: every planned cell of a run, the champion it met, and what decided it
SELECT o.model, o.country, o.state, o.reason, o.seconds, o.version, o.release_seq, v.decision, v.gates, v.against_seq,
       v.rows, champion.seq AS champion_seq, champion.to_version AS champion, (made.metrics ->> 'gain')::float AS gain
FROM outcomes AS o
LEFT JOIN verdicts AS v ON v.id = o.verdict
LEFT JOIN versions AS made ON made.id = o.version
LEFT JOIN LATERAL (
    SELECT r.seq, r.to_version FROM releases AS r
    WHERE r.model = o.model AND r.country = o.country AND r.seq IS DISTINCT FROM o.release_seq
      AND r.released_at <= coalesce(o.decided_at, now())
    ORDER BY r.seq DESC LIMIT 1) AS champion ON true
WHERE o.run_id = %(run_id)s ORDER BY o.model, o.country;

-- newest_run: the last planned run of a fleet whose data reach a moment
SELECT id, as_of, finished_at FROM runs WHERE fleet = %(fleet)s ORDER BY planned_at DESC LIMIT 1;

-- last_release_of: when a run made its last release
SELECT max(released_at) AS released_at FROM releases WHERE run_id = %(run_id)s;
