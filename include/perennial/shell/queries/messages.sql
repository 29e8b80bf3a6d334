-- add_message: what an owner is told of a run; writing it again changes nothing
INSERT INTO messages (run_id, scope, owner, tier, subject, body, state)
VALUES (%(run_id)s, %(scope)s, %(owner)s, %(tier)s, %(subject)s, %(body)s, %(state)s) ON CONFLICT DO NOTHING;

-- waiting_messages: a fleet's or source's messages that are not delivered yet: this run's first, tier 1 first, then the oldest
SELECT run_id, owner FROM messages WHERE scope = %(scope)s AND state = 'pending'
ORDER BY run_id = %(run_id)s DESC, tier, created_at, run_id, owner;

-- claim_message: a waiting message that nobody else is sending; it is ours until the transaction ends
SELECT run_id, owner, subject, body, reached FROM messages
WHERE run_id = %(run_id)s AND owner = %(owner)s AND state = 'pending' FOR UPDATE SKIP LOCKED;

-- record_delivery: how the delivery of a claimed message went
UPDATE messages SET state = CASE WHEN %(delivered)s THEN 'sent' ELSE 'pending' END, reached = %(reached)s, error = %(error)s,
                    attempts = attempts + %(tries)s, sent_at = CASE WHEN %(delivered)s THEN clock_timestamp() END
WHERE run_id = %(run_id)s AND owner = %(owner)s;

-- give_up_messages: a fleet's or source's messages that could not be delivered for a day
UPDATE messages SET state = 'failed'
WHERE scope = %(scope)s AND state = 'pending' AND created_at < now() - interval '1 day' RETURNING run_id, owner, error;

-- today: the day by the database's clock
SELECT to_char(now(), 'YYYY-MM-DD') AS day;
