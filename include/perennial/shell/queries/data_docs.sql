-- undocumented_batches: batches of a source that were decided since their page was made
SELECT country, seq FROM batches
WHERE source = %(source)s AND documented_at IS DISTINCT FROM decided_at ORDER BY decided_at, country, seq;

-- batch_to_document: what the page of a batch says
SELECT b.source, b.country, b.seq, b.state, b.reason, b.report, b.rows, b.lower, b.upper, b.event_min, b.event_max, b.object_key,
       b.landed_at, b.decided_at, s.rejected_rows, s.rejected_key, b.unreadable_rows, b.unreadable_key
FROM batches AS b LEFT JOIN splits AS s USING (source, country, seq)
WHERE b.source = %(source)s AND b.country = %(country)s AND b.seq = %(seq)s;

-- note_page: a batch has a page of its decision, unless it was decided anew meanwhile
UPDATE batches SET page = %(page)s, documented_at = %(decided_at)s
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND decided_at = %(decided_at)s;

-- lock_index: until the transaction ends no other one writes a source's index
SELECT pg_advisory_xact_lock(hashtextextended('perennial data docs ' || %(source)s, 0));

-- listed_batches: what a source's index lists: all that are held, then each country's newest
SELECT listed.*, listed.unreadable_rows + coalesce((
           SELECT s.rejected_rows FROM splits AS s
           WHERE s.source = %(source)s AND s.country = listed.country AND s.seq = listed.seq), 0) AS rejected_rows
FROM (
    SELECT country, seq, state, reason, rows, unreadable_rows, decided_at, page FROM batches
    WHERE source = %(source)s AND state = 'quarantined'
    UNION ALL
    SELECT newest.* FROM countries_landed(%(source)s) AS c
    CROSS JOIN LATERAL (
        SELECT b.country, b.seq, b.state, b.reason, b.rows, b.unreadable_rows, b.decided_at, b.page FROM batches AS b
        WHERE b.source = %(source)s AND b.country = c.country ORDER BY b.seq DESC LIMIT %(number)s) AS newest
    WHERE newest.state <> 'quarantined') AS listed
ORDER BY listed.state <> 'quarantined', listed.country, listed.seq DESC;

-- old_pages: pages of batches that were decided before some days, the oldest first; those of held ones stay
SELECT source, country, seq, page, decided_at FROM batches
WHERE page IS NOT NULL AND decided_at < now() - make_interval(days => %(days)s) AND state <> 'quarantined'
ORDER BY decided_at LIMIT %(number)s;

-- forget_page: a batch's page has expired, unless it was decided anew meanwhile
UPDATE batches SET page = NULL
WHERE source = %(source)s AND country = %(country)s AND seq = %(seq)s AND decided_at = %(decided_at)s;
