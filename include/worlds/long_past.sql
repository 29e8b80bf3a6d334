-- A fleet's long past, written straight into the tables: only as true as the database's readers need it to be.
-- Each run asked each cell once: of four runs one published, one kept, two skipped it.
SET session_replication_role = replica;

CREATE TEMPORARY TABLE past_cells AS
SELECT row_number() OVER (ORDER BY model, country) AS cell, model, country
FROM unnest(%(models)s::text[]) AS model, unnest(%(countries)s::text[]) AS country;

CREATE TEMPORARY TABLE past_runs AS
SELECT run, %(fleet)s || '/past-' || lpad(run::text, 7, '0') AS id,
       %(until)s - (%(runs)s - run) * interval '15 minutes' AS moment
FROM generate_series(1, %(runs)s) AS run;

INSERT INTO runs (id, fleet, requested, as_of, planned_at, finished_at)
SELECT id, %(fleet)s, '{"force": false, "dry_run": false, "models": null, "countries": null, "as_of": null}',
       jsonb_build_object(%(source)s, (SELECT jsonb_object_agg(country, moment) FROM unnest(%(countries)s::text[]) AS country)),
       moment, moment + interval '10 minutes'
FROM past_runs;

INSERT INTO recipes (hash, source, parameters)
SELECT lpad('recipe-' || model, 64, '0'), 'def examples(rows, as_of): ...', '{"alpha": 1.0}' FROM unnest(%(models)s::text[]) AS model;

INSERT INTO cursors (source, position, clock) SELECT %(source)s, max(moment), max(moment) FROM past_runs;

INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key, sha256, size,
                     state, reason, report, landed_at, decided_at, page, documented_at)
SELECT %(source)s, country, run, moment - interval '15 minutes', moment, CASE WHEN run > 1 THEN moment - interval '15 minutes' END,
       100 + run %% 50, moment - interval '20 minutes', moment - interval '5 minutes',
       'lake/' || country || '/' || run || '.parquet', lpad('batch-' || run, 64, '0'), 10000,
       CASE WHEN run %% 1000 = 0 THEN 'quarantined' ELSE 'accepted' END, '',
       jsonb_build_object(
           'findings', '[{"success": true, "severity": "critical", "expectation": "not null"}]'::jsonb,
           'profile', jsonb_build_object('rows', 100, 'days', jsonb_build_object(moment::date, 100), 'nulls', '{}'::jsonb,
                                         'categories', '{}'::jsonb, 'newest', moment)),
       moment, moment, CASE WHEN moment > now() - interval '30 days' THEN concat_ws('/', 'data_docs', country, run) END, moment
FROM past_runs, unnest(%(countries)s::text[]) AS country;

INSERT INTO splits (source, country, seq, rows, accepted_rows, rejected_rows, rejections, event_min, event_max, accepted_key,
                    accepted_sha256, accepted_size, rejected_key, rejected_sha256, rejected_size)
SELECT source, country, seq, rows, rows - 5, 5, '{"not null": 5}', event_min, event_max, object_key || '.accepted', sha256, 9000,
       object_key || '.rejected', sha256, 1000
FROM batches WHERE source = %(source)s AND seq %% 10 = 3;

INSERT INTO watermarks (source, country, seq, event_max)
SELECT source, country, seq, event_max FROM readable WHERE source = %(source)s AND state = 'accepted' AND event_max IS NOT NULL;

INSERT INTO batch_days (source, country, day, seq, rows)
SELECT b.source, b.country, d.key::date, b.seq, d.value::bigint
FROM batches AS b, jsonb_each_text(b.report -> 'profile' -> 'days') AS d
WHERE b.source = %(source)s AND b.state = 'accepted';

INSERT INTO days (source, country, day, rows)
SELECT source, country, day, sum(rows) FROM batch_days WHERE source = %(source)s GROUP BY source, country, day;

INSERT INTO key_filters (source, country, seq, key_types, filter)
SELECT source, country, seq, 'id int64', decode(repeat('f0', 250), 'hex') FROM batches
WHERE source = %(source)s AND %(files)s > 0;

-- In each run one file that comes again under its name, and some new ones.
INSERT INTO files (source, name, revision, state, stamp, modified_at, size, sha256, rows, lower, upper, seen_at, older_at)
SELECT %(source)s, CASE WHEN file = 0 THEN 'again.csv' ELSE concat('new/', run, '-', file, '.csv') END,
       CASE WHEN file = 0 THEN run ELSE 1 END, 'landed', 'stamp-' || run, moment, 1000,
       lpad(concat('file-', run, '-', file), 64, '0'), 10, moment - interval '15 minutes' + file * interval '10 microseconds',
       moment - interval '15 minutes' + (file + 1) * interval '10 microseconds', moment, moment
FROM past_runs, generate_series(0, %(files)s) AS file WHERE %(files)s > 0;

INSERT INTO compactions (source, country, first_seq, last_seq, excluded, batches, rows, event_min, event_max, object_key, sha256,
                         size)
SELECT r.source, r.country, c.first, c.last, coalesce(array_agg(r.seq ORDER BY r.seq) FILTER (WHERE r.state <> 'accepted'), '{}'),
       count(*) FILTER (WHERE r.state = 'accepted'), sum(r.rows) FILTER (WHERE r.state = 'accepted'),
       min(r.event_min) FILTER (WHERE r.state = 'accepted'), max(r.event_max) FILTER (WHERE r.state = 'accepted'),
       'compactions/' || r.country || '/' || c.first || '-' || c.last, lpad('compaction-' || c.first, 64, '0'), 1000000
FROM (SELECT run - 4095 AS first, run AS last FROM past_runs WHERE run %% 4096 = 0
      UNION ALL SELECT max(run) / 4096 * 4096 + 1, max(run) / 64 * 64 - 64 FROM past_runs
      UNION ALL SELECT max(run) / 64 * 64 - 63, max(run) / 64 * 64 - 16 FROM past_runs) AS c
JOIN readable AS r ON r.source = %(source)s AND r.seq BETWEEN c.first AND c.last GROUP BY r.source, r.country, c.first, c.last;

INSERT INTO batch_decisions (source, country, seq, decision, person, reason, overruled, decided_at)
SELECT source, country, seq, 'accept', 'Ada', 'looked right', 'volume', decided_at FROM batches WHERE source = %(source)s AND seq %% 100 = 7;

INSERT INTO snapshots (id, source, country, last_seq, excluded, window_start, window_end, rows, created_at)
SELECT lpad('snapshot-' || country || '-' || run, 64, '0'), %(source)s, country, run, '{}', moment - interval '180 days', moment,
       20000, moment
FROM past_runs, unnest(%(countries)s::text[]) AS country;

CREATE TEMPORARY TABLE past AS
SELECT r.id AS run_id, r.run, r.moment, c.model, c.country, (r.run - 1) * (SELECT count(*) FROM past_cells) + c.cell AS number,
       (r.run + c.cell) %% 4 AS fate, (r.run + c.cell %% 4) / 4 AS seq
FROM past_runs AS r, past_cells AS c;

INSERT INTO versions (id, model, country, snapshot, recipe, parameters, seed, environment, metrics, judged_until, served_until,
                      artifact_key, sha256, size, created_at)
SELECT lpad('version-' || number, 64, '0'), model, country, lpad('snapshot-' || country || '-' || run, 64, '0'),
       lpad('recipe-' || model, 64, '0'), '{"alpha": 1.0}', 0,
       jsonb_build_object('python', '3.11', 'numpy', '2.3',
                          'scikit-learn', CASE WHEN 2 * run < (SELECT max(run) FROM past) THEN '1.8' ELSE '1.9' END),
       '{"gain": 0.01, "challenger": 1.0, "champion": 1.01}', moment - interval '7 days', CASE WHEN fate = 0 THEN moment END,
       CASE WHEN fate = 0 THEN 'artifacts/' || model || '/' || country || '/' || number || '.manifest' END,
       CASE WHEN fate = 0 THEN lpad('manifest-' || number, 64, '0') END, CASE WHEN fate = 0 THEN 10000 END, moment
FROM past WHERE fate < 2;

INSERT INTO verdicts (id, challenger, model, country, against_seq, window_start, window_end, as_of, rows, clusters, decision,
                      gates, scores, reason, decided_at)
OVERRIDING SYSTEM VALUE
SELECT number, lpad('version-' || number, 64, '0'), model, country, seq - (fate = 0)::integer, moment - interval '7 days', moment, moment,
       2000, 14, CASE WHEN fate = 0 THEN 'promote' ELSE 'keep' END,
       '[{"gate": "floor", "bound": 2.0, "value": 1.0, "passed": true}, {"gate": "margin", "bound": -0.01, "value": 0.0, "passed": true}]',
       '{"gain": 0.01, "gain_lower": 0.0, "gain_upper": 0.02}', 'Gain +1.0%% on 2,000 rows of 14 days', moment
FROM past WHERE fate < 2;
SELECT setval(pg_get_serial_sequence('verdicts', 'id'), (SELECT max(number) FROM past));

INSERT INTO releases (model, country, seq, from_version, to_version, kind, verdict, reason, run_id, released_at)
SELECT model, country, seq, lag(lpad('version-' || number, 64, '0')) OVER (PARTITION BY model, country ORDER BY seq),
       lpad('version-' || number, 64, '0'), 'publish', number, 'Gain +1.0%% on 2,000 rows of 14 days', run_id, moment
FROM past WHERE fate = 0;

INSERT INTO outcomes (run_id, model, country, source, cost, state, reason, version, verdict, release_seq, seconds, decided_at)
SELECT run_id, model, country, %(source)s, 0.2, (ARRAY['published', 'kept', 'skipped', 'skipped'])[fate + 1],
       'Not due: 12 rows since the last verdict, 88 more are needed', CASE WHEN fate < 2 THEN lpad('version-' || number, 64, '0') END,
       CASE WHEN fate < 2 THEN number END, CASE WHEN fate = 0 THEN seq END, 0.2, moment + interval '5 minutes'
FROM past;

INSERT INTO attempts (run_id, model, country, attempt, worker, started_at, finished_at, timings)
SELECT run_id, model, country, 1, 'host:' || run %% 1000, moment, moment + interval '1 second', '{"load": 0.05, "fit": 0.1}'
FROM past;

INSERT INTO announcements (asset, item, announced_at)
SELECT %(source)s || ' accepted', country || '/' || run, moment FROM past_runs, unnest(%(countries)s::text[]) AS country
UNION ALL
SELECT %(fleet)s || ' released', model || '/' || country || '/' || seq, moment + interval '10 minutes' FROM past WHERE fate = 0;

INSERT INTO messages (run_id, scope, owner, tier, subject, body, state, reached, attempts, created_at, sent_at)
SELECT id, %(fleet)s, 'keepers', 2, 'published', 'published', 'sent', '{mail}', 1, moment, moment FROM past_runs;

-- Once in a hundred runs an ingest failed and worked again; once a day no rows came for three hours; who is held waits for a person.
INSERT INTO causes (source, kind, subject, reason, began_at, ended_at, ending, begin_message, end_message)
SELECT %(source)s, 'ingest failed', 'land: it was locked', 'land: it was locked', moment, moment + interval '10 minutes', 'Ingest works again.',
       id || '/1', id || '/2'
FROM past_runs WHERE run %% 100 = 0;

INSERT INTO causes (source, kind, subject, reason, began_at, begin_message)
SELECT source, 'batch held', country || ': volume', 'volume', landed_at, 'told' FROM batches
WHERE source = %(source)s AND state = 'quarantined';
INSERT INTO cause_items (source, kind, item, number, cause)
SELECT b.source, c.kind, b.country, b.seq, c.id
FROM batches AS b JOIN causes AS c ON c.source = b.source AND c.subject = b.country || ': volume' AND c.began_at = b.landed_at
WHERE b.source = %(source)s AND b.state = 'quarantined';

INSERT INTO pauses (source, began_at, ended_at)
SELECT %(source)s, moment - interval '3 hours', moment FROM past_runs WHERE run %% 96 = 0;

INSERT INTO blockers (model, country, kind, person, reason, created_at, lifted_by, lifted_at)
SELECT model, country, 'hold', 'Ada', 'looked odd', now(), 'Ada', now() FROM past_cells, generate_series(1, 10);

DROP TABLE past, past_runs, past_cells;
SET session_replication_role = origin;

INSERT INTO key_indexes (source, made_of) VALUES (%(source)s, '1: id int64');
INSERT INTO key_places (index_number, key_hash, country)
SELECT i.number, hashint8extended(key, 0), (%(countries)s::text[])[1 + key %% cardinality(%(countries)s::text[])]
FROM key_indexes AS i CROSS JOIN generate_series(1, %(runs)s * 200) AS key WHERE i.source = %(source)s;
