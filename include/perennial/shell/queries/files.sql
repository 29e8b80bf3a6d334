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
INSERT INTO files (source, name, revision, state, reason, stamp, modified_at, size, sha256, rows, removed, lower, upper)
VALUES (%(source)s, %(name)s, %(revision)s, %(state)s, %(reason)s, %(stamp)s, %(modified)s, %(size)s, %(sha256)s, %(rows)s,
        %(removed)s, %(lower)s, %(upper)s);

-- intervals_of_file: from when to when each landed revision of a file was picked up
SELECT lower, upper FROM files WHERE source = %(source)s AND name = %(name)s AND state = 'landed' ORDER BY revision;

-- batches_since: batches of a source with changes after a moment that were not replaced; accepted ones as readers get them
SELECT b.country, b.seq, b.lower, b.upper, b.state, coalesce(s.accepted_key, b.object_key) AS object_key,
       coalesce(s.accepted_sha256, b.sha256) AS sha256
FROM batches AS b
LEFT JOIN splits AS s ON s.source = b.source AND s.country = b.country AND s.seq = b.seq AND b.state = 'accepted'
WHERE b.source = %(source)s AND b.upper > %(since)s
  AND (SELECT count(*) FROM batches AS r
       WHERE r.source = b.source AND r.replaces_country = b.country AND r.replaces_seq = b.seq) = 0
ORDER BY b.country, b.seq;

-- audit_files: rule 6: what a landing's files hold is what its batches hold, and no file is landed twice with the same bytes
WITH landings AS (
    SELECT b.source, b.lower, b.upper, sum(b.rows) AS rows
    FROM batches AS b LEFT JOIN replaced AS r USING (source, country, seq) WHERE r.by IS NULL
    GROUP BY b.source, b.lower, b.upper),
compared AS (
    SELECT l.source, l.upper, l.rows, coalesce(sum(f.rows + f.removed), 0) AS said
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
WHERE f.rows + f.removed > 0 AND NOT EXISTS (
    SELECT FROM batches AS b WHERE b.source = f.source AND b.lower <= f.lower AND f.upper <= b.upper)
UNION ALL
SELECT source, concat('its file ', name, ', revision ', revision, ', shares its interval with another') FROM chains
WHERE lower < last_upper
UNION ALL
SELECT source, concat('its file ', name, ', revision ', revision, ', is landed again with the same bytes') FROM chains
WHERE sha256 = last_sha256;

-- audit_landed_files: every landed revision, whose file may still be there to compare with
SELECT source, name, sha256, lower FROM files WHERE state = 'landed' ORDER BY source, lower;
