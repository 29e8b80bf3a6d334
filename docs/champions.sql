-- Every move of every champion, in the order of the replayed time: which version came, by which verdict, and why.
SELECT r.model, r.country, r.seq, verdict.as_of::date AS as_of, r.kind, left(r.to_version, 8) AS champion,
       round((verdict.scores ->> 'challenger')::numeric, 3) AS challenger_score,
       round((verdict.scores ->> 'champion')::numeric, 3) AS incumbent_score,
       verdict.decision, r.reason
FROM perennial.releases AS r
LEFT JOIN perennial.verdicts AS verdict ON verdict.id = r.verdict
ORDER BY r.model, r.country, r.seq;
