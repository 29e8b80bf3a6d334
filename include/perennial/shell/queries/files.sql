-- changed_files: of files with the stamps they have now those that are unknown, or had another stamp when they were last seen
SELECT asked.name, coalesce(f.revision, 0) AS revision, landed.sha256 AS landed_sha256
FROM unnest(%(names)s::text[], %(stamps)s::text[]) AS asked (name, stamp)
LEFT JOIN LATERAL (
    SELECT f.stamp, f.revision FROM files AS f
    WHERE f.source = %(source)s AND f.name = asked.name ORDER BY f.revision DESC LIMIT 1) AS f ON true
LEFT JOIN LATERAL (
    SELECT l.sha256 FROM files AS l
    WHERE l.source = %(source)s AND l.name = asked.name AND l.state = 'landed' AND f.stamp <> asked.stamp
    ORDER BY l.revision DESC LIMIT 1) AS landed ON true
WHERE f.stamp IS DISTINCT FROM asked.stamp;

-- database_clock: the moment now
SELECT clock_timestamp() AS clock;

-- pick_up_file: the next revision of a file
INSERT INTO files (source, name, revision, state, reason, stamp, modified_at, size, sha256, rows, unreadable,
                   left_out, removed, lower, upper, older_at, older_key, older_sha256)
VALUES (%(source)s, %(name)s, %(revision)s, %(state)s, %(reason)s, %(stamp)s, %(modified)s, %(size)s, %(sha256)s, %(rows)s,
        %(unreadable_rows)s, %(left_out)s, %(removed)s, %(lower)s, %(upper)s, %(older_at)s, %(older_key)s, %(older_sha256)s);

-- add_key_filter: which keys the newest batch of a country may hold
INSERT INTO key_filters (source, country, seq, key_types, filter)
SELECT source, country, seq, %(key_types)s, %(filter)s FROM batches
WHERE source = %(source)s AND country = %(country)s ORDER BY seq DESC LIMIT 1;

-- standing_revision: of a file's last hundred revisions the newest whose older rows nobody has decided about since, within an hour
SELECT f.older_key, f.older_sha256, coalesce((
           SELECT p.revision FROM files AS p
           WHERE p.source = %(source)s AND p.name = %(name)s AND p.state = 'landed' AND p.revision < f.revision
           ORDER BY p.revision DESC LIMIT 1), 0) AS previous_revision
FROM (SELECT * FROM files
      WHERE source = %(source)s AND name = %(name)s AND state = 'landed' ORDER BY revision DESC LIMIT 100) AS f
WHERE f.older_at IS NOT NULL
  AND (SELECT count(*)
       FROM (SELECT * FROM batch_decisions AS d
             WHERE d.source = %(source)s AND d.decided_at >= f.older_at - interval '1 hour' OFFSET 0) AS d
       JOIN batches AS b ON b.source = d.source AND b.country = d.country AND b.seq = d.seq
       JOIN files AS g ON g.source = b.source AND g.name = %(name)s AND g.state = 'landed' AND g.upper > b.lower
                      AND g.upper <= b.upper
       WHERE g.revision < f.revision) = 0
ORDER BY f.revision DESC LIMIT 1;

-- intervals_from: from when to when the landed revisions of a file were picked up, from a revision on
SELECT lower, upper FROM files
WHERE source = %(source)s AND name = %(name)s AND state = 'landed' AND revision >= %(revision)s ORDER BY revision;

-- intervals_since: from when to when the landed revisions of a file were picked up, after a time
SELECT lower, upper FROM files
WHERE source = %(source)s AND name = %(name)s AND state = 'landed' AND upper > %(since)s ORDER BY upper;

-- batches_of_intervals: what holds the rows of files up to some ends; accepted batches as readers get them, none that is replaced
SELECT b.country, b.seq, b.upper, b.state, CASE WHEN s.seq IS NULL THEN b.object_key ELSE s.accepted_key END AS object_key,
       CASE WHEN s.seq IS NULL THEN b.sha256 ELSE s.accepted_sha256 END AS sha256
FROM (SELECT DISTINCT (
          SELECT l.upper FROM batches AS l
          WHERE l.source = %(source)s AND l.upper >= file.upper ORDER BY l.upper LIMIT 1) AS upper
      FROM unnest(%(uppers)s::timestamptz[]) AS file (upper)) AS landing
JOIN batches AS b ON b.source = %(source)s AND b.upper = landing.upper
LEFT JOIN splits AS s ON s.source = b.source AND s.country = b.country AND s.seq = b.seq AND b.state = 'accepted'
WHERE (SELECT count(*) FROM batches AS r
       WHERE r.source = b.source AND r.replaces_country = b.country AND r.replaces_seq = b.seq) = 0
ORDER BY b.country, b.seq;

-- batches_beside: what a country has landed since, less what is held, replaced, or of one file alone: its revisions after the first
SELECT b.seq, b.state, CASE WHEN s.seq IS NULL THEN b.object_key ELSE s.accepted_key END AS object_key,
       CASE WHEN s.seq IS NULL THEN b.sha256 ELSE s.accepted_sha256 END AS sha256, k.key_types, k.filter
FROM batches AS b
LEFT JOIN splits AS s ON s.source = b.source AND s.country = b.country AND s.seq = b.seq AND b.state = 'accepted'
LEFT JOIN key_filters AS k ON k.source = b.source AND k.country = b.country AND k.seq = b.seq
WHERE b.source = %(source)s AND b.country = %(country)s AND b.upper > %(since)s AND b.state IN ('landed', 'accepted')
  AND (SELECT count(*) FROM batches AS r
       WHERE r.source = b.source AND r.replaces_country = b.country AND r.replaces_seq = b.seq) = 0
  AND (SELECT count(*) FROM files AS f
       WHERE f.source = b.source AND f.name = %(name)s AND f.state = 'landed' AND f.upper > b.lower AND f.upper <= b.upper
         AND f.revision > (
             SELECT revision FROM files AS first
             WHERE first.source = %(source)s AND first.name = %(name)s AND first.state = 'landed'
             ORDER BY revision LIMIT 1)) = 0
ORDER BY b.upper, b.seq;

-- accepted_among: of some batches of a country those that are accepted
SELECT seq FROM batches
WHERE source = %(source)s AND country = %(country)s AND seq = ANY (%(seqs)s::integer[]) AND state = 'accepted';

-- audit_files: rule 6: what a landing's files hold is what its batches hold, and no file is landed twice with the same bytes
WITH landings AS (
    SELECT b.source, b.lower, b.upper, sum(b.rows + b.unreadable_rows) AS rows
    FROM batches AS b LEFT JOIN replaced AS r USING (source, country, seq) WHERE r.by IS NULL
    GROUP BY b.source, b.lower, b.upper),
compared AS (
    SELECT l.source, l.upper, l.rows, coalesce(sum(f.rows + f.unreadable - f.left_out + f.removed), 0) AS said
    FROM landings AS l
    LEFT JOIN files AS f ON f.source = l.source AND f.state = 'landed' AND f.lower >= l.lower AND f.lower < l.upper
    WHERE EXISTS (SELECT FROM files WHERE source = l.source) GROUP BY l.source, l.lower, l.upper, l.rows),
chains AS (
    SELECT source, name, revision, lower, lag(upper) OVER (PARTITION BY source ORDER BY lower, upper) AS last_upper,
           sha256, lag(sha256) OVER (PARTITION BY source, name ORDER BY revision) AS last_sha256
    FROM files WHERE state = 'landed')
SELECT source AS place, concat('its batches up to ', upper, ' hold ', rows, ' rows, their files ', said) AS what
FROM compared WHERE rows <> said
UNION ALL
SELECT f.source, concat('the rows of its file ', f.name, ', revision ', f.revision, ', are in no batch')
FROM files AS f
WHERE f.rows + f.unreadable - f.left_out + f.removed > 0 AND NOT EXISTS (
    SELECT FROM batches AS b WHERE b.source = f.source AND b.lower <= f.lower AND f.upper <= b.upper)
UNION ALL
SELECT source, concat('its file ', name, ', revision ', revision, ', shares its interval with another') FROM chains
WHERE lower < last_upper
UNION ALL
SELECT source, concat('its file ', name, ', revision ', revision, ', is landed again with the same bytes') FROM chains
WHERE sha256 = last_sha256;

-- audit_landed_files: every landed revision, whose file may still be there to compare with
SELECT source, name, sha256, lower FROM files WHERE state = 'landed' ORDER BY source, lower;
