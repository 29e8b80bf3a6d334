-- cursor_state: how far a source has landed, and what the last look at it has found; ``now`` is the registry's clock
SELECT position, server, seen_at, open_since, ahead, recheck_from, strays_at, clock_timestamp() AS now
FROM cursors WHERE source = %(source)s;

-- remember_look: what a look at a source has found
UPDATE cursors SET server = %(server)s, seen_at = %(seen_at)s, open_since = %(open_since)s, ahead = %(ahead)s,
                   recheck_from = %(recheck_from)s
WHERE source = %(source)s;

-- remember_strays: when rows of no interval were counted last
UPDATE cursors SET strays_at = clock_timestamp() WHERE source = %(source)s;

-- landings_between: the intervals that landings with changes of some time have
SELECT DISTINCT lower, upper FROM batches
WHERE source = %(source)s AND upper > %(start)s AND lower < %(end)s ORDER BY lower;

-- advance_recheck: what lies behind the cursor is looked through once, and only from where the look began
UPDATE cursors SET recheck_from = CASE WHEN %(end)s < position THEN %(end)s END
WHERE source = %(source)s AND recheck_from = %(start)s;
