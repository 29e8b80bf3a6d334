-- audit_extent: how much there is to look at
SELECT (SELECT count(*) FROM releases) AS releases,
       (SELECT count(DISTINCT (model, country)) FROM releases) AS cells,
       (SELECT count(*) FROM releases WHERE kind IN ('rollback', 'undo')) AS by_hand,
       (SELECT count(*) FROM verdicts) AS verdicts,
       (SELECT count(*) FROM verdicts WHERE against_seq = 0 AND decision = 'promote') AS first_models,
       (SELECT count(*) FROM batches) AS batches,
       (SELECT coalesce(sum(rows), 0)::bigint FROM batches) AS rows,
       (SELECT count(*) FROM snapshots) AS snapshots,
       (SELECT count(*) FROM runs) AS runs,
       (SELECT count(*) FROM outcomes) AS outcomes,
       (SELECT count(*) FROM attempts) AS attempts;

-- audit_attempts_at_large: attempts of finished runs whose cell is locked, though no other run is training it
SELECT a.model || '/' || a.country AS place,
       concat('attempt ', a.attempt, ' by ', a.worker, ' goes on, though run ', a.run_id, ' has ended') AS what
FROM attempts AS a JOIN runs AS r ON r.id = a.run_id
WHERE r.finished_at IS NOT NULL AND a.finished_at IS NULL AND NOT a.is_acquitted
  AND NOT EXISTS (SELECT FROM attempts AS other JOIN runs AS theirs ON theirs.id = other.run_id
                  WHERE (other.model, other.country) = (a.model, a.country) AND theirs.finished_at IS NULL)
  AND EXISTS (SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
              WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND d.datname = current_database()
                AND (l.classid::bigint << 32 | l.objid::bigint)
                    = hashtextextended('perennial cell ' || a.model || '/' || a.country, 0));

-- audit_champions: rule 1: each cell's releases are one chain from a first publication on, of versions with an artifact
WITH moves AS (
    SELECT model || '/' || country AS place, seq, from_version, kind, coalesce(lag(seq) OVER chain, 0) AS last_seq,
           lag(to_version) OVER chain AS champion
    FROM releases WINDOW chain AS (PARTITION BY model, country ORDER BY seq))
SELECT place, concat('release ', seq, ' comes after release ', last_seq) AS what FROM moves WHERE seq <> last_seq + 1
UNION ALL
SELECT place, concat('release ', seq, ' replaces ', coalesce(left(from_version, 12), 'nothing'), ', but ',
                     coalesce(left(champion, 12), 'nothing'), ' was in force')
FROM moves WHERE seq = last_seq + 1 AND from_version IS DISTINCT FROM champion
UNION ALL
SELECT place, concat('its first release is a ', kind) FROM moves WHERE seq = 1 AND kind <> 'publish'
UNION ALL
SELECT r.model || '/' || r.country,
       concat('release ', r.seq, ' is of version ', left(r.to_version, 12), ', which has no artifact on record')
FROM releases AS r LEFT JOIN versions AS v ON (v.id, v.model, v.country) = (r.to_version, r.model, r.country)
WHERE v.artifact_key IS NULL
UNION ALL
SELECT a.item, 'this release was announced and is gone'
FROM announcements AS a
WHERE right(a.asset, 9) = ' released'
  AND NOT EXISTS (SELECT FROM releases AS r WHERE r.model || '/' || r.country || '/' || r.seq = a.item);

-- audit_dangling: rule 2: rows that lean on rows that are not there
SELECT 'verdict ' || v.id AS place, 'its challenger ' || left(v.challenger, 12) || ' is not on record' AS what
FROM verdicts AS v WHERE NOT EXISTS (SELECT FROM versions WHERE id = v.challenger)
UNION ALL
SELECT 'version ' || left(v.id, 12), 'its snapshot ' || left(v.snapshot, 12) || ' is not on record'
FROM versions AS v WHERE NOT EXISTS (SELECT FROM snapshots WHERE id = v.snapshot)
UNION ALL
SELECT 'version ' || left(v.id, 12), 'its recipe ' || left(v.recipe, 12) || ' is not on record'
FROM versions AS v WHERE NOT EXISTS (SELECT FROM recipes WHERE hash = v.recipe)
UNION ALL
SELECT o.model || '/' || o.country, concat('its outcome in run ', o.run_id, ' names a version or verdict that is not on record')
FROM outcomes AS o
WHERE o.version IS NOT NULL AND NOT EXISTS (SELECT FROM versions WHERE id = o.version)
   OR o.verdict IS NOT NULL AND NOT EXISTS (SELECT FROM verdicts WHERE id = o.verdict)
UNION ALL
SELECT a.model || '/' || a.country, concat('attempt ', a.attempt, ' of run ', a.run_id, ' belongs to no planned cell')
FROM attempts AS a
WHERE NOT EXISTS (SELECT FROM outcomes AS o WHERE (o.run_id, o.model, o.country) = (a.run_id, a.model, a.country));

-- audit_artifacts: every version with an artifact, and whether it is the last release of its cell
SELECT v.id, v.id AS version, v.model, v.country, v.recipe, v.parameters, a.artifact_key, a.sha256, a.size,
       (SELECT deployment::text FROM generations ORDER BY number DESC LIMIT 1) AS deployment, EXISTS (
           SELECT FROM releases AS r
           WHERE (r.model, r.country, r.to_version) = (v.model, v.country, v.id) AND NOT EXISTS (
               SELECT FROM releases AS later
               WHERE (later.model, later.country) = (r.model, r.country) AND later.seq > r.seq)) AS is_champion
FROM versions AS v JOIN artifacts AS a ON a.version = v.id ORDER BY v.model, v.country, v.created_at;

-- audit_pointers: what each cell's pointer should say; it may lag until the release is announced or its run has ended
SELECT DISTINCT ON (r.model, r.country) r.model, r.country, r.seq, r.to_version AS version, a.artifact_key, a.sha256,
       r.run_id IS NULL
       OR EXISTS (SELECT FROM runs WHERE id = r.run_id AND finished_at IS NOT NULL)
       OR EXISTS (SELECT FROM announcements AS a
                  WHERE right(a.asset, 9) = ' released'
                    AND a.item = r.model || '/' || r.country || '/' || r.seq) AS is_settled
FROM releases AS r JOIN artifacts AS a ON a.version = r.to_version ORDER BY r.model, r.country, r.seq DESC;

-- audit_moves: rule 3: publications by a promotion of that version against the release before; others by a person
SELECT r.model || '/' || r.country AS place,
       concat('release ', r.seq, ' is not by a promotion of its version judged against release ', r.seq - 1) AS what
FROM releases AS r LEFT JOIN verdicts AS v ON v.id = r.verdict
WHERE r.kind = 'publish' AND (v.challenger, v.model, v.country, v.against_seq, v.decision)
      IS DISTINCT FROM (r.to_version, r.model, r.country, r.seq - 1, 'promote')
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ', a ', r.kind, ', names no person')
FROM releases AS r WHERE r.kind <> 'publish' AND coalesce(r.person, '') = ''
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ', a ', r.kind, ', is of a version that was not in force before')
FROM releases AS r
WHERE r.kind NOT IN ('publish', 'rebuild') AND NOT EXISTS (
    SELECT FROM releases AS earlier
    WHERE (earlier.model, earlier.country, earlier.to_version) = (r.model, r.country, r.to_version) AND earlier.seq < r.seq)
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ', a rebuild, is not the champion before it, fitted by another scikit-learn')
FROM releases AS r JOIN versions AS v ON v.id = r.to_version JOIN versions AS f ON f.id = r.from_version
WHERE r.kind = 'rebuild'
  AND ((v.recipe, v.snapshot, v.seed, v.judged_until) IS DISTINCT FROM (f.recipe, f.snapshot, f.seed, f.judged_until)
       OR v.environment ->> 'scikit-learn' IS NOT DISTINCT FROM f.environment ->> 'scikit-learn')
UNION ALL
SELECT v.model || '/' || v.country, concat('verdict ', v.id, ' was judged against release ', v.against_seq, ', which is gone')
FROM verdicts AS v
WHERE v.against_seq > 0 AND NOT EXISTS (
    SELECT FROM releases AS r WHERE (r.model, r.country, r.seq) = (v.model, v.country, v.against_seq));

-- audit_comparisons: rule 4: judged fits are compared after both their marks, up to as_of, and promoted past every gate
WITH judged AS (
    SELECT v.model || '/' || v.country AS place, v.*, challenger.judged_until AS challenger_mark,
           challenger.served_until, champion.judged_until AS champion_mark
    FROM verdicts AS v JOIN versions AS challenger ON challenger.id = v.challenger
    LEFT JOIN releases AS r ON (r.model, r.country, r.seq) = (v.model, v.country, v.against_seq)
    LEFT JOIN versions AS champion ON champion.id = r.to_version)
SELECT place, concat('verdict ', id, ' is on rows from ', window_start, ', its challenger learned to ', challenger_mark)
       AS what
FROM judged WHERE challenger_mark >= window_start
UNION ALL
SELECT place, concat('verdict ', id, ' is on rows from ', window_start, ', the champion learned to ', champion_mark)
FROM judged WHERE champion_mark >= window_start
UNION ALL
SELECT place, concat('verdict ', id, ' compares rows from ', window_start, ' to ', window_end, ' as of ', as_of)
FROM judged WHERE window_end > as_of OR window_start > window_end
UNION ALL
SELECT place, concat('verdict ', id, ' is a promotion with a failed gate')
FROM judged WHERE decision = 'promote' AND against_seq > 0 AND gates @? '$[*] ? (@.passed != true)'
UNION ALL
SELECT place, concat('the served fit of verdict ', id, ' has learned up to ', served_until, ', beyond its judged fit''s ',
                     challenger_mark, ' and ', as_of)
FROM judged WHERE served_until < challenger_mark OR decision = 'promote' AND served_until > as_of;

-- audit_first_models: rule 5: a first model is promoted past an absolute floor and a naive baseline
SELECT model || '/' || country AS place, concat('verdict ', id, ' promotes a first model that did not pass floor and baseline')
       AS what
FROM verdicts
WHERE decision = 'promote' AND (against_seq = 0 OR as_first) AND NOT (
    gates @> '[{"gate": "floor", "passed": true}, {"gate": "baseline", "passed": true}]'
    AND NOT gates @? '$[*] ? (@.passed != true)');

-- audit_ledger: rule 6: each country's batches are one chain, landings do not overlap, the cursor is past them
WITH chain AS (
    SELECT source || '/' || country AS place, seq, lower, coalesce(lag(seq) OVER country, 0) AS last_seq,
           CASE WHEN replaces_seq IS NULL AND NOT is_late THEN lag(reach) OVER country END AS last_upper
    FROM batches WINDOW country AS (PARTITION BY source, country ORDER BY seq)),
landings AS (
    SELECT source AS place, lower, upper, lag(upper) OVER (PARTITION BY source ORDER BY lower, upper) AS last_upper
    FROM (SELECT DISTINCT source, lower, upper FROM batches) AS every_one)
SELECT place, concat('batch ', seq, ' comes after batch ', last_seq) AS what FROM chain WHERE seq <> last_seq + 1
UNION ALL
SELECT place, concat('batch ', seq, ' begins at ', lower, ', before its predecessor ends at ', last_upper)
FROM chain WHERE lower < last_upper
UNION ALL
SELECT place, concat('the landing from ', lower, ' begins before another one ends, at ', last_upper)
FROM landings WHERE lower < last_upper
UNION ALL
SELECT b.source || '/' || b.country, concat('batch ', b.seq, ' is ', b.state, ', though it was replaced by ', r.by)
FROM batches AS b JOIN replaced AS r USING (source, country, seq) WHERE b.state <> 'retracted'
UNION ALL
SELECT b.source, concat('batches reach to ', max(b.upper), ', the cursor only to ', coalesce(c.position::text, 'nothing'))
FROM batches AS b LEFT JOIN cursors AS c USING (source)
GROUP BY b.source, c.position HAVING c.position IS NULL OR c.position < max(b.upper)
UNION ALL
SELECT a.asset, concat('batch ', a.item, ' was announced and is not accepted')
FROM announcements AS a
WHERE right(a.asset, 9) = ' accepted' AND NOT EXISTS (
    SELECT FROM batches AS b
    WHERE b.source || ' accepted' = a.asset AND b.country || '/' || b.seq = a.item AND b.state IN ('accepted', 'retracted'));

-- audit_compactions: rule 6: a compaction that is read holds as many rows as its batches, of the same time
WITH in_force AS (
    SELECT f.* FROM (SELECT DISTINCT source, country FROM compactions) AS c
    CROSS JOIN LATERAL compactions_in_force(c.source, c.country, 2147483647) AS f)
SELECT concat('the compaction of ', f.source, '/', f.country, ' batches ', f.first_seq, ' to ', f.last_seq) AS place,
       concat('it has ', f.rows, ' rows from ', f.event_min, ' to ', f.event_max, ', its batches have ', b.rows, ' from ',
              b.event_min, ' to ', b.event_max) AS what
FROM in_force AS f
CROSS JOIN LATERAL (
    SELECT sum(r.rows)::bigint AS rows, min(r.event_min) AS event_min, max(r.event_max) AS event_max
    FROM readable AS r
    WHERE (r.source, r.country, r.state) = (f.source, f.country, 'accepted') AND r.seq BETWEEN f.first_seq AND f.last_seq) AS b
WHERE (f.rows, f.event_min, f.event_max) IS DISTINCT FROM (b.rows, b.event_min, b.event_max);

-- audit_compacted: every compaction that is read, and the objects it was made of
SELECT f.source, f.country, f.first_seq, f.last_seq, f.rows, f.object_key, f.sha256, (
           SELECT json_agg(json_build_object('object_key', r.object_key, 'sha256', r.sha256) ORDER BY r.seq) FROM readable AS r
           WHERE (r.source, r.country, r.state) = (f.source, f.country, 'accepted')
             AND r.seq BETWEEN f.first_seq AND f.last_seq) AS originals
FROM (SELECT DISTINCT source, country FROM compactions) AS c
CROSS JOIN LATERAL compactions_in_force(c.source, c.country, 2147483647) AS f ORDER BY f.source, f.country, f.first_seq;

-- audit_batches: every batch that was not replaced, by source and landing: a replaced one's object may be what was lost
SELECT b.source, b.country, b.seq, b.lower, b.upper, b.rows, b.object_key, b.sha256, b.size, s.accepted_rows, s.accepted_key,
       s.accepted_sha256, s.rejected_rows, s.rejected_key, s.rejected_sha256, b.unreadable_rows, b.unreadable_key,
       b.unreadable_sha256
FROM batches AS b LEFT JOIN splits AS s USING (source, country, seq) LEFT JOIN replaced AS r USING (source, country, seq)
WHERE r.by IS NULL ORDER BY b.source, b.lower, b.upper, b.country, b.seq;

-- audit_readable: what readers get of every accepted batch
SELECT source, country, seq, object_key, sha256 FROM readable
WHERE state = 'accepted' AND object_key IS NOT NULL ORDER BY source, country, seq;

-- audit_balance: rule 7: rows by country: what was landed, and what became of it
SELECT b.source, b.country, sum(b.rows + b.unreadable_rows)::bigint AS landed,
       coalesce(sum(b.rows + b.unreadable_rows) FILTER (WHERE b.state = 'landed'), 0)::bigint AS undecided,
       coalesce(sum(r.rows) FILTER (WHERE b.state = 'accepted'), 0)::bigint AS accepted,
       (coalesce(sum(b.rows + b.unreadable_rows) FILTER (WHERE b.state = 'quarantined'), 0)
        + coalesce(sum(coalesce(s.rejected_rows, 0) + b.unreadable_rows) FILTER (WHERE b.state IN ('accepted', 'retracted')), 0)
       )::bigint AS quarantined,
       coalesce(sum(r.rows) FILTER (WHERE b.state = 'retracted'), 0)::bigint AS retracted
FROM batches AS b JOIN readable AS r USING (source, country, seq) LEFT JOIN splits AS s USING (source, country, seq)
GROUP BY b.source, b.country ORDER BY b.source, b.country;

-- audit_cursors: how far each source has landed
SELECT source, position FROM cursors ORDER BY source;

-- audit_quarantine: rule 7: what is kept aside says why and is read by nobody; what is accepted was validated
SELECT source || '/' || country AS place, concat('batch ', seq, ' is ', state, ', which is no state') AS what
FROM batches WHERE state NOT IN ('landed', 'accepted', 'quarantined', 'retracted')
UNION ALL
SELECT source || '/' || country, concat('batch ', seq, ' is ', state, ' without a reason')
FROM batches WHERE state IN ('quarantined', 'retracted') AND btrim(reason) = ''
UNION ALL
SELECT source || '/' || country, concat('batch ', seq, ' is ', state, ' and was decided ', coalesce(decided_at::text, 'never'))
FROM batches WHERE (state = 'landed') <> (decided_at IS NULL)
UNION ALL
SELECT source || '/' || country, concat('batch ', seq, ' is accepted, but no validation it passed is on record')
FROM batches AS b
WHERE state = 'accepted'
  AND (NOT report @? '$.findings[*]' OR report @? '$.findings[*] ? (@.success != true && @.severity == "critical")')
  AND NOT EXISTS (SELECT FROM batch_decisions AS d
                  WHERE (d.source, d.country, d.seq, d.decision) = (b.source, b.country, b.seq, 'accept'))
UNION ALL
SELECT b.source || '/' || b.country, concat('batch ', b.seq, ' is ', b.state, ', but every row of it was rejected')
FROM batches AS b JOIN splits AS s USING (source, country, seq)
WHERE b.state IN ('accepted', 'retracted') AND s.accepted_rows = 0
UNION ALL
SELECT source || '/' || country, concat('batch ', seq, ' has rejected rows, and no expectation they broke is on record')
FROM splits WHERE rejections = '{}'
UNION ALL
SELECT s.source || '/' || s.country, concat('snapshot ', left(s.id, 12), ' reads batch ', b.seq, ', which was ', b.state)
FROM snapshots AS s
JOIN batches AS b ON (b.source, b.country) = (s.source, s.country) AND b.seq <= s.last_seq AND b.seq <> ALL (s.excluded)
WHERE b.state IN ('landed', 'quarantined')
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ' is of a version that read batch ', b.seq, ' of ', s.source, '/', s.country,
                                           ', which was retracted before')
FROM releases AS r JOIN versions AS v ON v.id = r.to_version JOIN snapshots AS s ON s.id = v.snapshot
JOIN batches AS b ON (b.source, b.country) = (s.source, s.country) AND b.seq <= s.last_seq AND b.seq <> ALL (s.excluded)
WHERE r.kind IN ('publish', 'rebuild') AND b.state = 'retracted' AND b.decided_at < r.released_at
UNION ALL
SELECT v.model || '/' || v.country, concat('version ', left(v.id, 12), ' was trained on rows of ', s.country)
FROM versions AS v JOIN snapshots AS s ON s.id = v.snapshot WHERE s.country <> v.country;

-- audit_repetitions: rule 8: nothing was released, trained or asked twice
SELECT model || '/' || country AS place, concat('run ', run_id, ' released it ', count(*), ' times') AS what
FROM releases WHERE kind IN ('publish', 'rebuild') AND run_id IS NOT NULL GROUP BY model, country, run_id HAVING count(*) > 1
UNION ALL
SELECT place, concat('release ', seq, ' is of the version that was in force already')
FROM (SELECT model || '/' || country AS place, seq, to_version,
             lag(to_version) OVER (PARTITION BY model, country ORDER BY seq) AS champion,
             lag(seq) OVER (PARTITION BY model, country ORDER BY seq) AS last_seq FROM releases) AS moves
WHERE to_version = champion AND seq = last_seq + 1
UNION ALL
SELECT place, concat('attempt ', attempt, ' of run ', run_id, ' began at ', started_at, ', while one went on to ', busy_until)
FROM (SELECT model || '/' || country AS place, attempt, run_id, started_at, max(finished_at) OVER (
                 PARTITION BY model, country ORDER BY started_at, run_id, attempt
                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
      FROM attempts) AS tries
WHERE started_at < busy_until
UNION ALL
SELECT model || '/' || country, concat('run ', run_id, ' has ', count(*), ' attempts, numbered up to ', max(attempt))
FROM attempts GROUP BY model, country, run_id HAVING count(*) <> max(attempt);

-- audit_outcomes: rule 10: planned cells of ended runs have one outcome each, and releases and outcomes tell the same
SELECT o.model || '/' || o.country AS place, concat('run ', o.run_id, ' has ended, and this cell has no outcome') AS what
FROM outcomes AS o JOIN runs AS r ON r.id = o.run_id WHERE r.finished_at IS NOT NULL AND o.state = 'pending'
UNION ALL
SELECT model || '/' || country, concat('run ', run_id, ' has ', count(*), ' outcomes for this cell')
FROM outcomes GROUP BY model, country, run_id HAVING count(*) > 1
UNION ALL
SELECT o.model || '/' || o.country, concat('run ', o.run_id, ' published it, but release ', o.release_seq, ' says otherwise')
FROM outcomes AS o LEFT JOIN releases AS r ON (r.model, r.country, r.seq) = (o.model, o.country, o.release_seq)
WHERE o.state = 'published' AND (r.run_id, r.to_version, r.verdict) IS DISTINCT FROM (o.run_id, o.version, o.verdict)
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ' of run ', r.run_id, ' is not its outcome, which is ',
                                           coalesce(o.state, 'missing'))
FROM releases AS r JOIN runs ON runs.id = r.run_id
LEFT JOIN outcomes AS o ON (o.run_id, o.model, o.country) = (r.run_id, r.model, r.country)
WHERE r.kind IN ('publish', 'rebuild') AND runs.finished_at IS NOT NULL AND (o.state IS DISTINCT FROM 'published' OR o.release_seq <> r.seq)
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ' is of run ', r.run_id, ', which was never planned')
FROM releases AS r WHERE r.kind IN ('publish', 'rebuild') AND NOT EXISTS (SELECT FROM runs WHERE id = r.run_id)
UNION ALL
SELECT id, concat('the run was planned at ', planned_at, ' and is open: no report of fleet ', fleet, ' has closed it')
FROM runs WHERE finished_at IS NULL AND planned_at < now() - interval '2 days' AND NOT (requested ->> 'dry_run')::boolean;

-- audit_holds: rule 11: nothing is published past a blocker, and what a person takes back is held
SELECT r.model || '/' || r.country AS place, concat('release ', r.seq, ' was made past the ', b.kind, ' of ', b.person) AS what
FROM releases AS r JOIN blockers AS b ON (b.model, b.country) = (r.model, r.country)
WHERE r.kind = 'publish' AND (b.version IS NULL OR b.version = r.to_version)
  AND b.created_at < r.released_at - interval '1 second'
  AND r.released_at < coalesce(least(b.lifted_at, b.until), 'infinity')
UNION ALL
SELECT r.model || '/' || r.country, concat('release ', r.seq, ', a ', r.kind, ' by ', r.person, ', has put no hold on the cell')
FROM releases AS r
WHERE r.kind IN ('rollback', 'undo') AND NOT EXISTS (
    SELECT FROM blockers AS b
    WHERE (b.model, b.country, b.kind) = (r.model, r.country, 'hold') AND b.created_at <= r.released_at + interval '1 minute'
      AND coalesce(b.lifted_at, 'infinity') >= r.released_at);
