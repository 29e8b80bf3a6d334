-- Each decided batch has a page in the store, until it expires.

DROP TRIGGER guard_batch ON batches;
ALTER TABLE batches ADD COLUMN page text, ADD COLUMN documented_at timestamptz;
COMMENT ON COLUMN batches.page IS 'The key of the batch''s Data Docs page in the store; null where there is none, or none any more.';
COMMENT ON COLUMN batches.documented_at IS 'Of which decision the page told: that of decided_at, or the page is due.';

-- What was decided before there were pages stays without.
UPDATE batches SET documented_at = decided_at WHERE decided_at IS NOT NULL;

-- A change is either of the page alone, or of what it was before.
CREATE TRIGGER guard_batch BEFORE UPDATE ON batches FOR EACH ROW
    WHEN ((OLD.page, OLD.documented_at) IS NOT DISTINCT FROM (NEW.page, NEW.documented_at)) EXECUTE FUNCTION guard_batch();
CREATE TRIGGER guard_page AFTER UPDATE ON batches FOR EACH ROW
    WHEN ((OLD.page, OLD.documented_at) IS DISTINCT FROM (NEW.page, NEW.documented_at)
          AND to_jsonb(OLD) - '{page,documented_at}'::text[] <> to_jsonb(NEW) - '{page,documented_at}'::text[])
    EXECUTE FUNCTION refuse_change();

CREATE INDEX batches_undocumented ON batches (source) WHERE documented_at IS DISTINCT FROM decided_at;
CREATE INDEX batches_with_page ON batches (decided_at) WHERE page IS NOT NULL;
