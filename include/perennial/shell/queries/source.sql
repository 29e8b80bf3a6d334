-- source_clock: the source's own time, and whether the server only follows another one
SELECT clock_timestamp() AS clock, pg_is_in_recovery() AS is_standby;

-- source_server: which server this is; a fail-over or a restored backup makes another one of it
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END AS timeline;

-- open_transactions: who may still write: whom we cannot look into first, then the longest open
SELECT pid, usename AS role, application_name AS application, backend_type AS kind, state, xact_start AS since,
       query = '<insufficient privilege>' AS is_hidden,
       xact_start IS NULL AS is_untracked
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
  AND (xact_start IS NOT NULL OR query = '<insufficient privilege>' OR state = 'disabled' OR backend_xid IS NOT NULL
       OR state IN ('idle in transaction', 'idle in transaction (aborted)'))
ORDER BY is_hidden DESC, is_untracked DESC, xact_start LIMIT 1;

-- prepared_transactions: the one that was prepared first; when it began is on no record
SELECT gid, owner AS role, prepared AS since FROM pg_prepared_xacts WHERE database = current_database()
ORDER BY prepared LIMIT 1;

-- written_up_to: all that is committed here is in the log before this position; a number of its own sends the log that far
SELECT pg_current_wal_insert_lsn()::text AS lsn, txid_current();

-- replayed: whether a standby shows all up to a position of its primary's log, and follows its timeline
SELECT (SELECT system_identifier FROM pg_control_system())::text AS system,
       coalesce(pg_last_wal_replay_lsn() >= %(lsn)s::pg_lsn, false) AS is_done,
       pg_last_xact_replay_timestamp() AS shown_up_to,
       coalesce((SELECT received_tli FROM pg_stat_wal_receiver) = %(timeline)s, false)
           OR (SELECT min_recovery_end_timeline FROM pg_control_recovery()) = %(timeline)s AS follows;

-- written_elsewhere: whether a table gets its rows by logical replication and no trigger of its own dates them here
WITH RECURSIVE beneath AS (
    SELECT %(table)s::regclass::oid AS relation
    UNION
    SELECT below.relation FROM beneath CROSS JOIN LATERAL (
        SELECT i.inhrelid AS relation FROM pg_inherits AS i WHERE i.inhparent = beneath.relation
        UNION ALL
        SELECT d.refobjid FROM pg_rewrite AS r
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        WHERE r.ev_class = beneath.relation) AS below)
SELECT s.srrelid::regclass::text AS relation
FROM beneath AS b JOIN pg_subscription_rel AS s ON s.srrelid = b.relation
WHERE NOT EXISTS (SELECT FROM pg_trigger AS t
                  WHERE t.tgrelid = s.srrelid AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND t.tgtype & 3 = 3)
ORDER BY 1 LIMIT 1;

-- finds_dates: whether an index finds rows by a column's values, and those without one
SELECT EXISTS (
    SELECT FROM pg_attribute AS a
    JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
    JOIN pg_class AS k ON k.oid = i.indexrelid JOIN pg_am AS m ON m.oid = k.relam
    WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s AND m.amname = 'btree') AS is_indexed;

-- exact_texts: until the transaction ends, moments come as texts in UTC, year first, and numbers with all their digits
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true),
       set_config('extra_float_digits', '3', true);

-- columns_of: a table's columns as they are declared; of a domain the type beneath it
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS kind, coalesce(beneath.typname, t.typname) AS base,
       t.typtype = 'e' AS is_enum, a.attnotnull AS is_required
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_type AS beneath ON beneath.oid = nullif(t.typbasetype, 0)
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;

-- unique_keys_of: which columns of a table tell its rows apart, the primary key first
SELECT array_agg(a.attname::text ORDER BY place) AS names
FROM pg_index AS i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %(table)s::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary
HAVING i.indisprimary OR bool_and(a.attnotnull)
ORDER BY i.indisprimary DESC, count(*);

-- size_of: about how many rows a table has, and whether it has rows of its own, as a view has not
SELECT greatest(c.reltuples, 0)::float8 AS rows, c.relkind IN ('r', 'm', 'p') AS is_stored
FROM pg_class AS c WHERE c.oid = %(table)s::regclass;
