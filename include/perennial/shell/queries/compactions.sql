-- lock_compacting: one process at a time compacts; the lock dies with its session
SELECT pg_try_advisory_lock(hashtextextended('perennial compactions', 0)) AS locked;

-- unlock_compacting: the next process may
SELECT pg_advisory_unlock(hashtextextended('perennial compactions', 0));

-- countries_of: where a source has batches
SELECT country FROM countries_landed(%(source)s) ORDER BY country;

-- pieces_of: what holds the rows of a country's batches before the first that is not validated yet, in order
SELECT p.first_seq, p.last_seq, p.excluded, p.batches, p.rows, p.size, p.object_key, p.sha256
FROM (
    SELECT coalesce(
        (SELECT min(b.seq) FROM batches AS b WHERE b.source = %(source)s AND b.country = %(country)s AND b.state = 'landed'),
        (SELECT max(b.seq) + 1 FROM batches AS b WHERE b.source = %(source)s AND b.country = %(country)s)) - 1 AS seq) AS last
CROSS JOIN LATERAL pieces(%(source)s, %(country)s, last.seq) AS p ORDER BY p.first_seq;

-- add_compaction: unless what is read of its range has changed since its rows were looked up, or it is there already
INSERT INTO compactions (source, country, first_seq, last_seq, excluded, batches, rows, event_min, event_max, object_key, sha256,
                         size)
SELECT %(source)s, %(country)s, %(first_seq)s, %(last_seq)s, %(excluded)s, %(batches)s, %(rows)s, %(event_min)s, %(event_max)s,
       %(object_key)s, %(sha256)s, %(size)s
WHERE unread_of(%(source)s, %(country)s, %(first_seq)s, %(last_seq)s) = %(excluded)s
ON CONFLICT DO NOTHING;

-- idle_compactions: those that readers have not been given for so long: others hold their range, or it is read otherwise
WITH in_force AS MATERIALIZED (
    SELECT f.* FROM (SELECT DISTINCT source, country FROM compactions) AS c
    CROSS JOIN LATERAL compactions_in_force(c.source, c.country, 2147483647) AS f)
SELECT c.object_key FROM compactions AS c
WHERE c.made_at < now() - %(keep)s
  AND NOT EXISTS (
    SELECT FROM in_force AS f
    WHERE f.source = c.source AND f.country = c.country AND f.first_seq <= c.last_seq AND f.last_seq >= c.first_seq
      AND (f.object_key = c.object_key OR f.made_at >= now() - %(keep)s))
  AND (SELECT count(*) FROM batches AS b
       WHERE b.source = c.source AND b.country = c.country AND b.seq BETWEEN c.first_seq AND c.last_seq
         AND b.decided_at >= now() - %(keep)s) = 0;

-- recorded_compactions: which objects compactions are in, and of what size
SELECT object_key, size FROM compactions;

-- drop_compaction: nobody is given it any more
DELETE FROM compactions WHERE object_key = %(object_key)s;
