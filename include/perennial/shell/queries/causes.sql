-- lock_causes: until the transaction ends nobody else notifies the owner of a source
SELECT pg_advisory_xact_lock(hashtextextended('perennial causes ' || %(source)s, 0));

-- begin_cause: something is not as it should be; where it was so already, it is the same cause
INSERT INTO causes (source, kind, subject, reason) VALUES (%(source)s, %(kind)s, %(subject)s, %(reason)s)
ON CONFLICT DO NOTHING;

-- end_causes: it is as it should be again; of one subject, or of all
UPDATE causes SET ended_at = greatest(clock_timestamp(), began_at), ending = %(ending)s
WHERE source = %(source)s AND kind = %(kind)s AND subject = coalesce(%(subject)s, subject) AND ended_at IS NULL;

-- end_cause: one cause is over
UPDATE causes SET ended_at = greatest(clock_timestamp(), began_at), ending = %(ending)s WHERE id = %(id)s AND ended_at IS NULL;

-- begin_cause_of_items: the cause that a batch or file belongs to: one that began within a day for the same, or a new one
WITH open AS (
    SELECT id FROM causes
    WHERE source = %(source)s AND kind = %(kind)s AND subject = %(subject)s AND ended_at IS NULL
      AND began_at > now() - interval '1 day'
    ORDER BY began_at DESC LIMIT 1),
new AS (
    INSERT INTO causes (source, kind, subject, reason)
    SELECT %(source)s, %(kind)s, %(subject)s, %(reason)s WHERE (SELECT count(*) FROM open) = 0 RETURNING id)
INSERT INTO cause_items (source, kind, item, number, cause)
SELECT %(source)s, %(kind)s, %(item)s, %(number)s, id FROM (SELECT id FROM open UNION ALL SELECT id FROM new) AS cause
ON CONFLICT DO NOTHING;

-- held_without_cause: batches that are held since a month or less and that their source's owner is not notified of
SELECT b.country, b.seq, b.reason, b.report -> 'findings' AS findings FROM batches AS b
WHERE b.source = %(source)s AND b.state = 'quarantined' AND b.decided_at > now() - interval '30 days'
  AND (SELECT count(*) FROM cause_items AS i
       WHERE i.source = b.source AND i.kind IN ('batch held', 'batch not validated') AND i.item = b.country
         AND i.number = b.seq) = 0
ORDER BY b.country, b.seq;

-- settled_batches: of open causes of held batches those of which none is held any more: what became of each batch
SELECT c.id, b.country, b.seq, b.state, b.reason, last.decision, last.person, last.reason AS because, (
           SELECT string_agg(anew.country || ' ' || anew.seq, ', ' ORDER BY anew.country) FROM batches AS anew
           WHERE anew.source = b.source AND anew.replaces_country = b.country AND anew.replaces_seq = b.seq) AS replaced_by
FROM causes AS c
JOIN cause_items AS i ON i.cause = c.id
JOIN batches AS b ON b.source = c.source AND b.country = i.item AND b.seq = i.number
LEFT JOIN LATERAL (
    SELECT d.decision, d.person, d.reason FROM batch_decisions AS d
    WHERE d.source = b.source AND d.country = b.country AND d.seq = b.seq ORDER BY d.id DESC LIMIT 1) AS last ON true
WHERE c.source = %(source)s AND c.kind IN ('batch held', 'batch not validated') AND c.ended_at IS NULL
  AND (SELECT count(*) FROM cause_items AS o
       JOIN batches AS held ON held.source = c.source AND held.country = o.item AND held.seq = o.number
       WHERE o.cause = c.id AND held.state = 'quarantined') = 0
ORDER BY c.id, b.country, b.seq;

-- refused_without_cause: files that were refused lately and that their source's owner is not notified of
SELECT f.name, f.revision, f.reason FROM files AS f
WHERE f.source = %(source)s AND f.state = 'refused' AND f.seen_at > now() - interval '2 days'
  AND (SELECT count(*) FROM cause_items AS i
       WHERE i.source = f.source AND i.kind = 'file refused' AND i.item = f.name AND i.number = f.revision) = 0
ORDER BY f.seen_at, f.name;

-- settled_files: of causes of refused files of the last thirty days those of which each file has been taken since
SELECT c.id, i.item AS name
FROM causes AS c JOIN cause_items AS i ON i.cause = c.id
WHERE c.source = %(source)s AND c.kind = 'file refused' AND c.ended_at IS NULL AND c.began_at > now() - interval '30 days'
  AND (SELECT count(*) FROM cause_items AS o
       WHERE o.cause = c.id AND (
           SELECT f.state FROM files AS f
           WHERE f.source = c.source AND f.name = o.item ORDER BY f.revision DESC LIMIT 1) = 'refused') = 0
ORDER BY c.id, i.item;

-- rejected_lately: of each country's newest accepted batch how many of its rows were rejected or could not be read
SELECT c.country, last.seq, (last.found ->> 'rows')::bigint AS rows, (last.found ->> 'unexpected')::bigint AS rejected
FROM countries_landed(%(source)s) AS c
CROSS JOIN LATERAL (
    SELECT b.seq, (
        SELECT each FROM jsonb_array_elements(b.report -> 'findings') AS each
        WHERE each ->> 'expectation' = 'max_rejected') AS found
    FROM batches AS b
    WHERE b.source = %(source)s AND b.country = c.country AND b.state = 'accepted' ORDER BY b.seq DESC LIMIT 1) AS last
WHERE last.found IS NOT NULL;

-- arrivals: when a source has landed first and last, and the moment now
SELECT (SELECT b.landed_at FROM batches AS b
        WHERE b.source = %(source)s AND b.replaces_seq IS NULL ORDER BY b.landed_at LIMIT 1) AS first,
       (SELECT b.landed_at FROM batches AS b
        WHERE b.source = %(source)s AND b.replaces_seq IS NULL ORDER BY b.landed_at DESC LIMIT 1) AS last,
       clock_timestamp() AS now;

-- recent_pauses: when a source was silent for three hours or more, oldest first: of sixty days, and twelve at least
SELECT began_at, ended_at FROM pauses
WHERE source = %(source)s AND ended_at >= least(now() - interval '60 days', coalesce((
          SELECT p.ended_at FROM pauses AS p
          WHERE p.source = %(source)s ORDER BY p.ended_at DESC OFFSET 11 LIMIT 1), '-infinity'))
ORDER BY ended_at;

-- open_causes: since when something of a kind is wrong with a source
SELECT began_at FROM causes WHERE source = %(source)s AND kind = %(kind)s AND ended_at IS NULL;

-- untold_causes: causes whose beginning or end their owner is not notified of yet; they stay as they are until the transaction ends
SELECT c.id, c.kind, c.subject, c.reason, c.began_at, c.ended_at, c.ending, c.begin_message IS NULL AS is_new, ARRAY(
           SELECT i.item FROM cause_items AS i WHERE i.cause = c.id ORDER BY i.item, i.number LIMIT 20) AS items, ARRAY(
           SELECT i.number FROM cause_items AS i WHERE i.cause = c.id ORDER BY i.item, i.number LIMIT 20) AS numbers,
       (SELECT count(*) FROM cause_items AS i WHERE i.cause = c.id) AS size
FROM causes AS c
WHERE c.source = %(source)s AND (c.begin_message IS NULL OR (c.ended_at IS NOT NULL AND c.end_message IS NULL))
ORDER BY c.began_at, c.id FOR UPDATE;

-- next_message: the name of one more message of a run
SELECT %(run_id)s || '/' || nextval('message_numbers') AS name;

-- note_told: with which message an owner is notified of causes
UPDATE causes SET begin_message = coalesce(begin_message, %(message)s),
                  end_message = CASE WHEN ended_at IS NOT NULL THEN %(message)s END
WHERE id = ANY (%(ids)s::bigint[]);
