-- Rows of a file whose countries the spec leaves out: they are counted among the file's rows, readable or not, and are in no batch.

ALTER TABLE files ADD COLUMN left_out bigint NOT NULL DEFAULT 0 CHECK (left_out BETWEEN 0 AND rows + unreadable);
COMMENT ON COLUMN files.left_out IS 'Of rows and unreadable, those of countries that the spec leaves out. They are in no batch.';
