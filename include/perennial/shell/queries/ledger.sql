-- cursor_of: how far a source has landed
SELECT position, clock FROM cursors WHERE source = %(source)s;

-- start_cursor: a source's first landing begins before all its rows
INSERT INTO cursors (source, position, clock) VALUES (%(source)s, '1900-01-01', %(clock)s) ON CONFLICT DO NOTHING;

-- advance_cursor: moves only from where the extraction began
UPDATE cursors SET position = %(upper)s, clock = %(clock)s WHERE source = %(source)s AND position = %(lower)s;

-- land_batch: the next batch of a source and country
INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key, sha256, size,
                     is_late, unreadable_rows, unreadable, unreadable_key, unreadable_sha256, unreadable_size)
SELECT %(source)s, %(country)s, coalesce(last.seq, 0) + 1, %(lower)s, %(upper)s, last.reach, %(rows)s,
       %(event_min)s, %(event_max)s, %(object_key)s, %(sha256)s, %(size)s, %(is_late)s,
       %(unreadable_rows)s, %(unreadable)s, %(unreadable_key)s, %(unreadable_sha256)s, %(unreadable_size)s
FROM (SELECT 1) AS one
LEFT JOIN (SELECT seq, reach FROM batches WHERE source = %(source)s AND country = %(country)s ORDER BY seq DESC LIMIT 1)
    AS last ON true
RETURNING seq;

-- lock_landing: until the transaction ends no other one lands or replaces batches of the source
SELECT position FROM cursors WHERE source = %(source)s FOR UPDATE;

-- landed_beside: what else came with a batch's landing, as far as it was not replaced
SELECT b.source, b.country, b.seq, b.state, b.object_key, b.sha256, b.unreadable_key, b.unreadable_sha256 FROM batches AS b
WHERE b.source = %(source)s AND b.lower = %(lower)s AND b.upper = %(upper)s
  AND (b.country, b.seq) <> (%(country)s, %(seq)s)
  AND (SELECT count(*) FROM batches AS r
       WHERE r.source = b.source AND r.replaces_country = b.country AND r.replaces_seq = b.seq) = 0;

-- retire_batch: nobody reads a batch that is replaced
UPDATE batches SET state = 'retracted', reason = %(reason)s,
                   decided_at = CASE WHEN state = 'retracted' THEN decided_at ELSE clock_timestamp() END
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND state IN ('quarantined', 'retracted');

-- replace_batch: a country's next batch holds changes of one that was retired, over the same interval
INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key, sha256, size,
                     unreadable_rows, unreadable, unreadable_key, unreadable_sha256, unreadable_size, replaces_country, replaces_seq)
SELECT b.source, %(country)s, coalesce(last.seq, 0) + 1, b.lower, b.upper, last.reach, %(rows)s, %(event_min)s, %(event_max)s,
       %(object_key)s, %(sha256)s, %(size)s, %(unreadable_rows)s, %(unreadable)s, %(unreadable_key)s, %(unreadable_sha256)s,
       %(unreadable_size)s, b.country, b.seq
FROM batches AS b
LEFT JOIN (SELECT seq, reach FROM batches WHERE source = %(source)s AND country = %(country)s ORDER BY seq DESC LIMIT 1)
    AS last ON true
WHERE b.source = %(source)s AND b.country = %(replaced_country)s AND b.seq = %(replaced_seq)s
RETURNING country, seq, rows, upper, event_min, event_max, object_key, sha256, state, reason, source, unreadable_rows,
          unreadable, unreadable_key, unreadable_sha256;

-- undecided_batches: landed, not validated yet, each country's in their order
SELECT source, country, seq, rows, upper, event_min, event_max, object_key, sha256, state, reason, unreadable_rows, unreadable,
       unreadable_key, unreadable_sha256
FROM batches
WHERE source = %(source)s AND state = 'landed' ORDER BY country, seq;

-- held_batches: kept aside, of one country and number or of all
SELECT source, country, seq, rows, upper, event_min, event_max, object_key, sha256, state, reason, unreadable_rows, unreadable,
       unreadable_key, unreadable_sha256
FROM batches
WHERE source = %(source)s AND state = 'quarantined' AND country = coalesce(%(country)s, country)
  AND seq = coalesce(%(seq)s, seq)
ORDER BY country, seq;

-- kept_aside: batches that are held, and the newest ones with rejected or unreadable rows; of one country and number, or of all
WITH wanted AS (
    SELECT source, country, seq FROM batches
    WHERE source = %(source)s AND state = 'quarantined' AND country = coalesce(%(country)s, country)
      AND seq = coalesce(%(seq)s, seq)
    UNION
    (SELECT source, country, seq FROM splits
     WHERE source = %(source)s AND country = coalesce(%(country)s, country) AND seq = coalesce(%(seq)s, seq)
       AND event_max IS NOT NULL
     ORDER BY event_max DESC LIMIT %(number)s)
    UNION
    (SELECT source, country, seq FROM batches
     WHERE source = %(source)s AND unreadable_rows > 0 AND country = coalesce(%(country)s, country)
       AND seq = coalesce(%(seq)s, seq)
     ORDER BY upper DESC LIMIT %(number)s)
    UNION
    SELECT source, country, seq FROM batches WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s)
SELECT b.country, b.seq, b.state, b.reason, b.landed_at, b.rows, b.event_min, b.event_max, b.object_key, b.sha256,
       b.unreadable_rows, b.unreadable, b.unreadable_key, b.unreadable_sha256,
       s.rejected_rows, s.rejections, s.rejected_key, s.rejected_sha256, r.by AS replaced_by, last.decision, last.person,
       last.reason AS decided_because
FROM wanted AS w JOIN batches AS b USING (source, country, seq) LEFT JOIN splits AS s USING (source, country, seq)
LEFT JOIN LATERAL (
    SELECT string_agg(anew.country || ' ' || anew.seq, ', ' ORDER BY anew.country) AS by FROM batches AS anew
    WHERE anew.source = b.source AND anew.replaces_country = b.country AND anew.replaces_seq = b.seq) AS r ON true
LEFT JOIN LATERAL (
    SELECT d.decision, d.person, d.reason FROM batch_decisions AS d
    WHERE d.source = b.source AND d.country = b.country AND d.seq = b.seq ORDER BY d.id DESC LIMIT 1) AS last ON true
ORDER BY b.state = 'quarantined' DESC, b.country, b.seq;

-- decide_batch: accept or quarantine a batch that is landed, or was kept aside and is validated again
UPDATE batches SET state = %(state)s, reason = %(reason)s, report = %(report)s, decided_at = now()
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND state IN ('landed', 'quarantined');

-- lock_undecided: a batch as nobody else may decide it until the transaction ends; none where it was decided meanwhile
SELECT state FROM batches
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND state = %(state)s FOR UPDATE;

-- lock_validation: whether this session validates a batch; the lock ends with it
SELECT pg_try_advisory_lock(
    hashtextextended('perennial batch ' || %(source)s || '/' || %(country)s || '/' || %(seq)s::text, 0)) AS locked;

-- unlock_validation: another session may validate it
SELECT pg_advisory_unlock(
    hashtextextended('perennial batch ' || %(source)s || '/' || %(country)s || '/' || %(seq)s::text, 0));

-- start_batch_attempt: a batch's deaths so far, asked under its lock; an attempt begins unless it is decided or deadly
WITH asked AS (
    SELECT max(decided_at) AS at FROM batch_decisions
    WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND decision = 'validate again'),
past AS (
    SELECT count(*) AS deaths, (array_agg(a.ended ORDER BY a.id DESC))[1] AS ended
    FROM batch_attempts AS a CROSS JOIN asked
    WHERE a.source = %(source)s AND a.country = %(country)s AND a.seq = %(seq)s AND a.finished_at IS NULL
      -- A server that was restarted has not let attempts be closed: they say nothing.
      AND a.started_at > greatest(asked.at, pg_postmaster_start_time())
      AND (SELECT count(*) FROM batch_attempts AS o WHERE o.worker = a.worker AND o.finished_at IS NULL) = 1),
started AS (
    INSERT INTO batch_attempts (source, country, seq, worker)
    SELECT b.source, b.country, b.seq, %(worker)s FROM batches AS b CROSS JOIN past
    WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq = %(seq)s AND b.state = %(state)s
      AND past.deaths <= %(deaths_allowed)s
    RETURNING id)
SELECT b.state = %(state)s AS is_undecided, b.state, past.deaths, past.ended, started.id AS attempt
FROM batches AS b CROSS JOIN past LEFT JOIN started ON true
WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq = %(seq)s;

-- end_batch_attempt: the batch has not ended its process
UPDATE batch_attempts SET finished_at = clock_timestamp()
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND worker = %(worker)s AND finished_at IS NULL;

-- end_batch_attempts: nothing that a process had open has ended it
UPDATE batch_attempts SET finished_at = clock_timestamp(), ended = %(ended)s
WHERE worker = %(worker)s AND finished_at IS NULL;

-- note_death: how a process ended, at each attempt it had open
UPDATE batch_attempts SET ended = %(ended)s WHERE worker = %(worker)s AND finished_at IS NULL;

-- suspected_batches: batches that were open in a process that ended: each is tried alone
SELECT DISTINCT country, seq FROM batch_attempts
WHERE source = %(source)s AND finished_at IS NULL AND started_at > pg_postmaster_start_time();

-- forget_split: what an earlier validation of an undecided batch has kept aside
DELETE FROM splits WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s;

-- add_split: the two objects of a batch with rejected rows
INSERT INTO splits (source, country, seq, rows, accepted_rows, rejected_rows, rejections, event_min, event_max, accepted_key,
                    accepted_sha256, accepted_size, rejected_key, rejected_sha256, rejected_size)
VALUES (%(source)s, %(country)s, %(seq)s, %(rows)s, %(accepted_rows)s, %(rejected_rows)s, %(rejections)s, %(event_min)s,
        %(event_max)s, %(accepted_key)s, %(accepted_sha256)s, %(accepted_size)s, %(rejected_key)s, %(rejected_sha256)s,
        %(rejected_size)s);

-- recent_profiles: what a country's last accepted batches looked like, newest first
SELECT seq, upper, report -> 'profile' AS profile FROM batches
WHERE source = %(source)s AND country = %(country)s AND seq < %(seq)s AND state = 'accepted' AND report ? 'profile'
ORDER BY seq DESC LIMIT %(number)s;

-- held_profiles: what a country's batches that are kept aside since one look like, and for what they are, newest first
SELECT seq, upper, report -> 'profile' AS profile, report -> 'findings' AS findings FROM batches
WHERE source = %(source)s AND country = %(country)s AND seq > %(first_seq)s AND seq < %(seq)s AND state = 'quarantined'
  AND report -> 'profile' ? 'rows'
ORDER BY seq DESC LIMIT %(number)s;

-- days_seen: rows by day of the events on some days, over a country's accepted batches before one
SELECT DISTINCT d.day, (d.rows - coalesce(later.rows, 0))::bigint AS rows
FROM unnest(%(starts)s::date[], %(ends)s::date[]) AS wanted (first, last)
JOIN days AS d ON d.source = %(source)s AND d.country = %(country)s AND d.day BETWEEN wanted.first AND wanted.last
LEFT JOIN (
    SELECT day, sum(rows) AS rows FROM batch_days
    WHERE source = %(source)s AND country = %(country)s AND seq >= %(seq)s GROUP BY day) AS later ON later.day = d.day
WHERE d.rows > coalesce(later.rows, 0);

-- first_event: the first day of which a country's accepted batches before one have rows
SELECT (SELECT d.day FROM days AS d
        WHERE d.source = %(source)s AND d.country = %(country)s AND d.rows > (
            SELECT coalesce(sum(later.rows), 0) FROM batch_days AS later
            WHERE later.source = d.source AND later.country = d.country AND later.day = d.day AND later.seq >= %(seq)s)
        ORDER BY d.day LIMIT 1)::timestamptz AS moment;

-- overlapping_batches: accepted batches before one with events on its days, the newest ones
SELECT r.seq, r.object_key, r.sha256, r.event_min, r.event_max
FROM (
    SELECT DISTINCT newest.seq
    FROM days AS asked
    CROSS JOIN LATERAL (
        SELECT d.seq FROM batch_days AS d
        WHERE d.source = asked.source AND d.country = asked.country AND d.day = asked.day AND d.seq < %(seq)s
        ORDER BY d.seq DESC LIMIT %(number)s) AS newest
    WHERE asked.source = %(source)s AND asked.country = %(country)s
      AND asked.day BETWEEN %(event_min)s::timestamptz::date AND %(event_max)s::timestamptz::date
    ORDER BY newest.seq DESC LIMIT %(number)s) AS found
CROSS JOIN LATERAL (
    SELECT * FROM readable AS b
    WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq = found.seq OFFSET 0) AS r
ORDER BY r.seq DESC;

-- batch_of: one batch as it stands
SELECT b.source, b.country, b.seq, b.state, b.reason, b.rows, b.lower, b.upper, b.object_key, b.sha256, s.accepted_rows,
       b.unreadable_rows, b.unreadable, b.unreadable_key, b.unreadable_sha256,
       b.report -> 'profile' ? 'rows' AS is_validated, (
           SELECT string_agg(anew.country || ' ' || anew.seq, ', ' ORDER BY anew.country) FROM batches AS anew
           WHERE anew.source = b.source AND anew.replaces_country = b.country AND anew.replaces_seq = b.seq) AS replaced_by
FROM batches AS b LEFT JOIN splits AS s USING (source, country, seq)
WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq = %(seq)s;

-- accept_batch: a person accepts what was kept aside
UPDATE batches SET state = 'accepted', reason = %(reason)s, decided_at = clock_timestamp()
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND state = 'quarantined';

-- retract_batch: a person takes an accepted batch back
UPDATE batches SET state = 'retracted', reason = %(reason)s, decided_at = clock_timestamp()
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND state = 'accepted';

-- add_batch_decision: who decided what about a batch, and why
INSERT INTO batch_decisions (source, country, seq, decision, person, reason, overruled, versions)
VALUES (%(source)s, %(country)s, %(seq)s, %(decision)s, %(person)s, %(reason)s, %(overruled)s, %(versions)s);

-- last_decision: what was decided last about a batch, by whom and why
SELECT decision, person, reason FROM batch_decisions
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s ORDER BY id DESC LIMIT 1;

-- versions_trained_on: versions whose snapshot reads a batch, champions first
SELECT v.id, v.model, v.country, v.id = (
           SELECT r.to_version FROM releases AS r
           WHERE r.model = v.model AND r.country = v.country ORDER BY r.seq DESC LIMIT 1) IS TRUE AS is_champion
FROM readable AS b
JOIN snapshots AS s ON s.source = b.source AND s.country = b.country AND s.last_seq >= b.seq AND b.seq <> ALL (s.excluded)
                   AND b.event_max >= s.window_start AND b.event_min <= s.window_end
JOIN versions AS v ON v.snapshot = s.id
WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq = %(seq)s
ORDER BY is_champion DESC, v.model, v.created_at DESC;

-- reading_differently: of some cells those whose last challenger or champion read batches, or did without, that a person decided anew
SELECT c.model, c.country
FROM unnest(%(models)s::text[], %(countries)s::text[]) AS c (model, country)
CROSS JOIN LATERAL (
    SELECT v.challenger, v.decided_at FROM settled_verdicts AS v
    WHERE v.model = c.model AND v.country = c.country ORDER BY v.id DESC LIMIT 1) AS last
LEFT JOIN LATERAL (
    SELECT r.to_version FROM releases AS r
    WHERE r.model = c.model AND r.country = c.country ORDER BY r.seq DESC LIMIT 1) AS champion ON true
WHERE (SELECT count(*)
       FROM versions AS v JOIN snapshots AS s ON s.id = v.snapshot
       JOIN batch_decisions AS d ON d.source = s.source AND d.country = s.country AND d.seq <= s.last_seq
       JOIN readable AS b ON b.source = d.source AND b.country = d.country AND b.seq = d.seq
       WHERE v.id IN (last.challenger, champion.to_version) AND b.event_max >= s.window_start AND b.event_min <= s.window_end
         AND (v.id = last.challenger AND (b.state = 'accepted') = (b.seq = ANY (s.excluded))
              OR v.id = champion.to_version AND b.state = 'retracted' AND b.seq <> ALL (s.excluded)
                 AND b.decided_at > last.decided_at)) > 0
   OR (SELECT count(*)
       FROM versions AS v JOIN snapshots AS s ON s.id = v.snapshot
       JOIN readable AS b ON b.source = s.source AND b.country = s.country AND b.seq > s.last_seq AND b.state = 'accepted'
       JOIN batches AS anew ON anew.source = b.source AND anew.country = b.country AND anew.seq = b.seq
                           AND anew.replaces_seq IS NOT NULL
       WHERE v.id = last.challenger AND b.event_max >= s.window_start AND b.event_min <= s.window_end) > 0;

-- batches_of: a country's accepted batches up to a number that may hold rows of a window or later revisions of them, as readers get them
SELECT r.seq, r.rows, r.event_min, r.event_max, r.object_key, r.sha256
FROM batches AS b JOIN readable AS r USING (source, country, seq)
WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq <= %(last_seq)s AND b.state = 'accepted'
  AND b.seq >= first_to_read(%(source)s, %(country)s, %(last_seq)s, %(start)s, %(end)s) AND r.object_key IS NOT NULL
ORDER BY seq;

-- objects_of: the same rows in fewer objects: compactions that hold just what is read of their range, and the batches between them
WITH held AS MATERIALIZED (SELECT * FROM pieces(%(source)s, %(country)s, %(last_seq)s)),
inside AS (SELECT first_seq, last_seq FROM held WHERE event_max >= %(start)s AND event_min <= %(end)s)
SELECT first_seq, batches, rows, event_min, event_max, object_key, sha256
FROM held
WHERE object_key IS NOT NULL AND last_seq >= least((SELECT min(first_seq) FROM inside), (
    SELECT first_changed_since(%(source)s, %(country)s, min(b.lower)) FROM batches AS b
    WHERE b.source = %(source)s AND b.country = %(country)s AND b.replaces_seq IS NOT NULL
      AND b.seq >= (SELECT min(first_seq) FROM inside) AND b.seq <= %(last_seq)s))
ORDER BY first_seq;

-- last_decided: the last batch of a country before the first that is not validated yet, those up to it not to be read, and the newest event of the others
SELECT last.seq AS last_seq, ARRAY(
    SELECT b.seq FROM batches AS b
    WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq <= last.seq AND b.state <> 'accepted'
    ORDER BY b.seq) AS excluded, (
    SELECT w.event_max FROM watermarks AS w
    WHERE w.source = %(source)s AND w.country = %(country)s AND w.seq <= last.seq
    ORDER BY w.event_max DESC LIMIT 1) AS event_max
FROM (
    SELECT b.seq FROM batches AS b
    WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq < coalesce((
        SELECT min(landed.seq) FROM batches AS landed
        WHERE landed.source = %(source)s AND landed.country = %(country)s AND landed.state = 'landed'), 2147483647)
    ORDER BY b.seq DESC LIMIT 1) AS last;

-- first_landing: up to when a country landed first
SELECT upper FROM batches WHERE source = %(source)s AND country = %(country)s AND seq = 1;

-- newest_held: the countries whose last validated batch is held, and why
SELECT c.country, last.seq, last.reason
FROM countries_landed(%(source)s) AS c
CROSS JOIN LATERAL (
    SELECT b.seq, b.state, b.reason FROM batches AS b
    WHERE b.source = %(source)s AND b.country = c.country AND b.state <> 'landed' ORDER BY b.seq DESC LIMIT 1) AS last
WHERE last.state = 'quarantined';

-- decided_rows: per country, rows and newest decision of its last accepted batches before the first that is not validated yet
SELECT c.country, sum(last.rows)::bigint AS rows, max(last.decided_at) AS decided_at
FROM countries_landed(%(source)s) AS c
CROSS JOIN LATERAL (
    SELECT b.rows, b.decided_at FROM readable AS b
    WHERE b.source = %(source)s AND b.country = c.country AND b.state = 'accepted' AND b.seq < coalesce((
        SELECT min(landed.seq) FROM batches AS landed
        WHERE landed.source = %(source)s AND landed.country = c.country AND landed.state = 'landed'), 2147483647)
    ORDER BY b.seq DESC LIMIT 100) AS last
GROUP BY c.country;

-- as_of: per country of a source, its newest accepted event before the first batch that is not validated yet, capped by the source's own clock
SELECT c.country, least(newest.event_max, k.clock) AS as_of
FROM cursors AS k
CROSS JOIN countries_landed(k.source) AS c
CROSS JOIN LATERAL (
    SELECT w.event_max FROM watermarks AS w
    WHERE w.source = k.source AND w.country = c.country AND w.seq < coalesce((
        SELECT min(landed.seq) FROM batches AS landed
        WHERE landed.source = k.source AND landed.country = c.country AND landed.state = 'landed'), 2147483647)
    ORDER BY w.event_max DESC LIMIT 1) AS newest
WHERE k.source = %(source)s ORDER BY c.country;

-- unannounced_batches: accepted since an hour before the last wake-up call, and not covered by one
SELECT country, seq, rows FROM readable AS b
WHERE source = %(source)s AND state = 'accepted'
  AND decided_at >= coalesce((SELECT max(announced_at) FROM announcements WHERE asset = %(asset)s) - interval '1 hour', '-infinity')
  AND (SELECT count(*) FROM announcements AS a WHERE a.asset = %(asset)s AND a.item = b.country || '/' || b.seq) = 0
ORDER BY country, seq;

-- announce: remember what a wake-up call covers
INSERT INTO announcements (asset, item) SELECT %(asset)s, unnest(%(items)s::text[]) ON CONFLICT DO NOTHING;

-- add_snapshot: what a training reads
INSERT INTO snapshots (id, source, country, last_seq, excluded, window_start, window_end, known_until, rows)
VALUES (%(id)s, %(source)s, %(country)s, %(last_seq)s, %(excluded)s, %(window_start)s, %(window_end)s, %(known_until)s, %(rows)s)
ON CONFLICT DO NOTHING;

-- batches_by_state: how many batches of a source are in which state
SELECT state, count(*) AS number FROM batches WHERE source = %(source)s GROUP BY state;
