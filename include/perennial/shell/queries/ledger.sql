-- cursor_of: how far a source has landed
SELECT position, clock FROM cursors WHERE source = %(source)s;

-- start_cursor: a source's first landing begins before all its rows
INSERT INTO cursors (source, position, clock) VALUES (%(source)s, '1900-01-01', %(clock)s) ON CONFLICT DO NOTHING;

-- advance_cursor: moves only from where the extraction began
UPDATE cursors SET position = %(upper)s, clock = %(clock)s WHERE source = %(source)s AND position = %(lower)s;

-- land_batch: the next batch of a source and country
INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key, sha256, size)
SELECT %(source)s, %(country)s, coalesce(last.seq, 0) + 1, %(lower)s, %(upper)s, last.upper, %(rows)s,
       %(event_min)s, %(event_max)s, %(object_key)s, %(sha256)s, %(size)s
FROM (SELECT 1) AS one
LEFT JOIN (SELECT seq, upper FROM batches WHERE source = %(source)s AND country = %(country)s ORDER BY seq DESC LIMIT 1)
    AS last ON true
RETURNING seq;

-- undecided_batches: landed, not validated yet
SELECT source, country, seq, rows, object_key, sha256 FROM batches
WHERE source = %(source)s AND state = 'landed' ORDER BY rows DESC;

-- decide_batch: accept or quarantine a landed batch
UPDATE batches SET state = %(state)s, reason = %(reason)s, report = %(report)s, decided_at = now()
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND state = 'landed';

-- batches_of: a country's ledger up to a number
SELECT seq, state, rows, event_min, event_max, object_key, sha256 FROM batches
WHERE source = %(source)s AND country = %(country)s AND seq <= %(last_seq)s ORDER BY seq;

-- last_decided: per country, the last batch before the first that is not validated yet
SELECT c.country, last.seq AS last_seq
FROM countries_landed(%(source)s) AS c
CROSS JOIN LATERAL (
    SELECT b.seq FROM batches AS b
    WHERE b.source = %(source)s AND b.country = c.country AND b.seq < coalesce((
        SELECT min(landed.seq) FROM batches AS landed
        WHERE landed.source = %(source)s AND landed.country = c.country AND landed.state = 'landed'), 2147483647)
    ORDER BY b.seq DESC LIMIT 1) AS last;

-- decided_rows: per country, the rows of its last accepted batches before the first that is not validated yet
SELECT c.country, sum(last.rows)::bigint AS rows
FROM countries_landed(%(source)s) AS c
CROSS JOIN LATERAL (
    SELECT b.rows FROM batches AS b
    WHERE b.source = %(source)s AND b.country = c.country AND b.state = 'accepted' AND b.seq < coalesce((
        SELECT min(landed.seq) FROM batches AS landed
        WHERE landed.source = %(source)s AND landed.country = c.country AND landed.state = 'landed'), 2147483647)
    ORDER BY b.seq DESC LIMIT 100) AS last
GROUP BY c.country;

-- as_of: the newest accepted event time of a source, capped by the source's own clock
SELECT least(newest.event_max, c.clock) AS as_of
FROM cursors AS c
CROSS JOIN LATERAL (
    SELECT b.event_max FROM batches AS b
    WHERE b.source = c.source AND b.state = 'accepted' ORDER BY b.event_max DESC LIMIT 1) AS newest
WHERE c.source = %(source)s;

-- unannounced_batches: accepted since an hour before the last wake-up call, and not covered by one
SELECT country, seq, rows FROM batches AS b
WHERE source = %(source)s AND state = 'accepted'
  AND decided_at >= coalesce((SELECT max(announced_at) FROM announcements WHERE asset = %(asset)s) - interval '1 hour', '-infinity')
  AND (SELECT count(*) FROM announcements AS a WHERE a.asset = %(asset)s AND a.item = b.country || '/' || b.seq) = 0
ORDER BY country, seq;

-- announce: remember what a wake-up call covers
INSERT INTO announcements (asset, item) SELECT %(asset)s, unnest(%(items)s::text[]) ON CONFLICT DO NOTHING;

-- add_snapshot: what a training reads
INSERT INTO snapshots (id, source, country, last_seq, excluded, window_start, window_end, rows)
VALUES (%(id)s, %(source)s, %(country)s, %(last_seq)s, %(excluded)s, %(window_start)s, %(window_end)s, %(rows)s)
ON CONFLICT DO NOTHING;

-- batches_by_state: how many batches of a source are in which state
SELECT state, count(*) AS number FROM batches WHERE source = %(source)s GROUP BY state;
