-- add_run: a run's plan; planning again changes nothing
INSERT INTO runs (id, fleet, requested, as_of, left_out)
VALUES (%(id)s, %(fleet)s, %(requested)s, %(as_of)s, %(left_out)s) ON CONFLICT DO NOTHING;

-- run_of: a run's plan
SELECT id, fleet, requested, as_of, left_out, planned_at, finished_at FROM runs WHERE id = %(id)s;

-- add_outcomes: planned cells
INSERT INTO outcomes (run_id, model, country, source, cost, fresh, held)
SELECT %(run_id)s, planned.*
FROM unnest(%(models)s::text[], %(countries)s::text[], %(sources)s::text[], %(costs)s::double precision[],
            %(fresh)s::boolean[], %(held)s::text[]) AS planned
ON CONFLICT DO NOTHING;

-- add_held_outcomes: cells that are not due, for what would make them due is held
INSERT INTO outcomes (run_id, model, country, source, cost, held, state, reason, decided_at)
SELECT %(run_id)s, kept.model, kept.country, kept.source, 0, kept.held, 'skipped', kept.held, clock_timestamp()
FROM unnest(%(models)s::text[], %(countries)s::text[], %(sources)s::text[], %(held)s::text[])
    AS kept (model, country, source, held)
ON CONFLICT DO NOTHING;

-- past_of: per cell, the data time it was last asked at and what its last training took
SELECT c.model, c.country, asked.as_of, trained.seconds
FROM unnest(%(models)s::text[], %(countries)s::text[]) AS c (model, country)
LEFT JOIN LATERAL (
    SELECT v.as_of FROM settled_verdicts AS v
    WHERE v.model = c.model AND v.country = c.country ORDER BY v.id DESC LIMIT 1) AS asked ON true
LEFT JOIN LATERAL (
    SELECT o.seconds FROM outcomes AS o
    WHERE o.model = c.model AND o.country = c.country AND o.seconds IS NOT NULL
      AND o.state IN ('published', 'kept', 'inconclusive', 'blocked')
    ORDER BY o.decided_at DESC LIMIT 1) AS trained ON true;

-- count_pending: how many cells of a run have no outcome
SELECT count(*) AS number FROM outcomes WHERE run_id = %(run_id)s AND state = 'pending';

-- lock_next: lock a cell that its run has not tried: of a source and country, else with fresh rows, the costliest; few are looked at
WITH near AS MATERIALIZED (
    SELECT o.model, o.country, o.fresh, o.cost FROM outcomes AS o
    WHERE o.run_id = %(run_id)s AND o.source = %(source)s AND o.country = %(near)s AND o.state = 'pending'
      AND (SELECT count(*) FROM attempts AS a WHERE a.run_id = o.run_id AND a.model = o.model AND a.country = o.country) = 0
    ORDER BY o.cost DESC, o.model LIMIT 10),
costliest AS MATERIALIZED (
    SELECT o.model, o.country, o.fresh, o.cost FROM outcomes AS o
    WHERE o.run_id = %(run_id)s AND o.state = 'pending'
      AND (SELECT count(*) FROM attempts AS a WHERE a.run_id = o.run_id AND a.model = o.model AND a.country = o.country) = 0
    ORDER BY o.fresh DESC, o.cost DESC, o.model, o.country LIMIT 10),
queue AS MATERIALIZED (
    SELECT 1 AS place, * FROM near UNION ALL SELECT 2, * FROM costliest
    ORDER BY place, fresh DESC, cost DESC, model, country)
SELECT model, country FROM queue
WHERE pg_try_advisory_lock(hashtextextended('perennial cell ' || model || '/' || country, 0)) LIMIT 1;

-- pending: all cells of a run without an outcome, the least tried first, then the costliest
SELECT o.model, o.country,
       (SELECT count(*) FROM attempts AS a
        WHERE a.run_id = o.run_id AND a.model = o.model AND a.country = o.country) AS attempts
FROM outcomes AS o WHERE o.run_id = %(run_id)s AND o.state = 'pending'
ORDER BY attempts, o.cost DESC, o.model, o.country;

-- lock_cell: a lock that dies with this session
SELECT pg_try_advisory_lock(hashtextextended('perennial cell ' || %(model)s || '/' || %(country)s, 0)) AS locked;

-- unlock_cell: give the cell back
SELECT pg_advisory_unlock(hashtextextended('perennial cell ' || %(model)s || '/' || %(country)s, 0));

-- start_attempt: what a cell has come to in its run, asked under its lock; an attempt begins unless it is decided or deadly
WITH past AS (
    SELECT count(*) AS attempts, count(*) FILTER (WHERE NOT is_acquitted) AS tries,
           count(*) FILTER (WHERE finished_at IS NULL AND NOT is_acquitted) AS deaths,
           max(worker) FILTER (WHERE finished_at IS NULL AND NOT is_acquitted) AS worker
    FROM attempts WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s),
released AS (
    SELECT count(*) > 0 AS is_released FROM releases
    WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s),
started AS (
    INSERT INTO attempts (run_id, model, country, attempt, worker)
    SELECT o.run_id, o.model, o.country, past.attempts + 1, %(worker)s
    FROM outcomes AS o CROSS JOIN past CROSS JOIN released
    WHERE o.run_id = %(run_id)s AND o.model = %(model)s AND o.country = %(country)s AND o.state = 'pending'
      AND past.deaths <= %(deaths_allowed)s AND NOT is_released
    RETURNING attempt)
SELECT o.model, o.country, o.state = 'pending' AS is_pending, is_released, past.tries, past.deaths, past.worker,
       started.attempt
FROM outcomes AS o CROSS JOIN past CROSS JOIN released LEFT JOIN started ON true
WHERE o.run_id = %(run_id)s AND o.model = %(model)s AND o.country = %(country)s;

-- end_attempt: how it went, the cell's outcome left open
UPDATE attempts SET finished_at = clock_timestamp(), error = %(error)s, timings = %(timings)s, is_acquitted = %(is_acquitted)s
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND attempt = %(attempt)s;

-- end_and_decide: how an attempt went, and the cell's one final outcome
WITH ended AS (
    UPDATE attempts SET finished_at = clock_timestamp(), error = %(error)s, timings = %(timings)s
    WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND attempt = %(attempt)s)
UPDATE outcomes SET state = %(state)s, version = %(version)s, verdict = %(verdict)s, release_seq = %(release_seq)s,
                    reason = CASE WHEN %(state)s IN ('kept', 'inconclusive', 'skipped')
                                  THEN concat_ws(' ', %(reason)s, nullif(held, '')) ELSE %(reason)s END,
                    seconds = %(seconds)s, decided_at = clock_timestamp()
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND state = 'pending';

-- unfinished_attempts_of: what a process that has ended was training in a run
SELECT count(*) AS number FROM attempts WHERE run_id = %(run_id)s AND worker = %(worker)s AND finished_at IS NULL;

-- acquit_attempts: what a process had begun that has ended for no reason of its cell's; when it ended, nobody saw
UPDATE attempts SET is_acquitted = true, error = %(error)s
WHERE run_id = %(run_id)s AND worker = %(worker)s AND finished_at IS NULL;

-- other_run_training: another run that holds the cell now: the lock is its newest unfinished attempt's
SELECT newest.run_id FROM (
    SELECT a.run_id FROM attempts AS a JOIN outcomes AS o USING (run_id, model, country)
    WHERE a.model = %(model)s AND a.country = %(country)s AND a.finished_at IS NULL AND NOT a.is_acquitted
      AND o.state = 'pending'
    ORDER BY a.started_at DESC LIMIT 1) AS newest
WHERE newest.run_id <> %(run_id)s;

-- lock_holder: who holds a cell's lock, and whether an attempt that began lately may be theirs
SELECT l.pid, a.usename AS person, a.application_name AS application, a.client_addr::text AS host,
       a.backend_start AS since,
       EXISTS (SELECT FROM attempts AS t
               WHERE t.model = %(model)s AND t.country = %(country)s AND t.finished_at IS NULL
                 AND NOT t.is_acquitted AND t.started_at > now() - %(longest)s) AS may_train
FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database()
  AND (l.classid::bigint << 32) | l.objid::bigint
      = hashtextextended('perennial cell ' || %(model)s || '/' || %(country)s, 0)
LIMIT 1;

-- decide: a cell's one final outcome, where no attempt was made
UPDATE outcomes SET state = %(state)s, reason = %(reason)s, version = %(version)s, verdict = %(verdict)s,
                    release_seq = %(release_seq)s, decided_at = clock_timestamp()
WHERE run_id = %(run_id)s AND model = %(model)s AND country = %(country)s AND state = 'pending';

-- open_runs: runs of a fleet that no report has closed
SELECT id FROM runs WHERE fleet = %(fleet)s AND finished_at IS NULL ORDER BY planned_at;

-- failed_of: the failed cells of a run, and how many it had
SELECT model, country, (SELECT count(*) FROM outcomes AS every WHERE every.run_id = o.run_id) AS cells
FROM outcomes AS o WHERE run_id = %(run_id)s AND state = 'failed' ORDER BY model, country;

-- finish_run: the report has been made
UPDATE runs SET finished_at = coalesce(finished_at, now()) WHERE id = %(id)s;

-- outcomes_of: every planned cell of a run, the champion it met, and what decided it
SELECT o.model, o.country, o.state, o.reason, o.held, o.seconds, o.version, o.release_seq, v.decision, v.gates, v.against_seq,
       v.rows, champion.seq AS champion_seq, champion.to_version AS champion, (v.scores ->> 'gain')::float AS gain,
       released.kind
FROM outcomes AS o
LEFT JOIN verdicts AS v ON v.id = o.verdict
LEFT JOIN releases AS released
    ON released.model = o.model AND released.country = o.country AND released.seq = o.release_seq
LEFT JOIN LATERAL (
    SELECT r.seq, r.to_version FROM releases AS r
    WHERE r.model = o.model AND r.country = o.country AND r.seq IS DISTINCT FROM o.release_seq
      AND r.released_at <= coalesce(o.decided_at, now())
    ORDER BY r.seq DESC LIMIT 1) AS champion ON true
WHERE o.run_id = %(run_id)s ORDER BY o.model, o.country;

-- newest_run: the last planned run of a fleet whose data reach a moment
SELECT id, as_of, planned_at, finished_at FROM runs WHERE fleet = %(fleet)s ORDER BY planned_at DESC LIMIT 1;

-- last_release_of: when a run made its last release
SELECT max(released_at) AS released_at FROM releases WHERE run_id = %(run_id)s;
