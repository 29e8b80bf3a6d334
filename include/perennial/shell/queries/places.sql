-- key_index: the index of a source's keys, and whether no key is in it
SELECT number, made_of, changes,
       (SELECT key_hash FROM key_places WHERE index_number = key_indexes.number ORDER BY key_hash LIMIT 1) IS NULL AS is_empty
FROM key_indexes WHERE source = %(source)s;

-- start_key_index: an index of a source's keys, to be filled
INSERT INTO key_indexes (source, made_of) VALUES (%(source)s, %(made_of)s)
ON CONFLICT (source) DO UPDATE SET made_of = excluded.made_of, changes = key_indexes.changes + 1;

-- forget_key_places: what an index holds that is made again
DELETE FROM key_places WHERE index_number = %(number)s;

-- change_key_index: keys that were looked up before are to be looked up again
UPDATE key_indexes SET changes = changes + 1 WHERE source = %(source)s;

-- places_elsewhere: of some keys, each in one of some countries, where else they have been
SELECT landed.key_hash, places.country
FROM unnest(%(hashes)s::bigint[], %(places)s::integer[]) AS landed (key_hash, place)
JOIN key_places AS places ON places.index_number = %(number)s AND places.key_hash = landed.key_hash
WHERE places.country <> (%(countries)s::text[])[landed.place];

-- add_key_places: that some keys have been in a country
INSERT INTO key_places (index_number, key_hash, country)
SELECT %(number)s, landed.key_hash, %(country)s FROM unnest(%(hashes)s::bigint[]) AS landed (key_hash)
WHERE NOT EXISTS (
    SELECT FROM key_places AS known
    WHERE known.index_number = %(number)s AND known.key_hash = landed.key_hash AND known.country = %(country)s);

-- fill_key_places: many keys at once into an index that holds none
COPY key_places (index_number, key_hash, country) FROM STDIN (FORMAT binary);

-- batches_since: batches of a source with changes after a time that were not replaced; accepted ones as readers get them
SELECT b.country, b.seq, b.lower, b.upper, b.state, coalesce(s.accepted_key, b.object_key) AS object_key,
       coalesce(s.accepted_sha256, b.sha256) AS sha256
FROM batches AS b
LEFT JOIN splits AS s ON s.source = b.source AND s.country = b.country AND s.seq = b.seq AND b.state = 'accepted'
WHERE b.source = %(source)s AND b.upper > %(since)s
  AND (SELECT count(*) FROM batches AS r
       WHERE r.source = b.source AND r.replaces_country = b.country AND r.replaces_seq = b.seq) = 0
ORDER BY b.country, b.seq;
