-- safe_bound: the latest changed_at that no open transaction can still write before, and the source's clock
SELECT least(clock_timestamp() - %(lag)s,
             (SELECT min(xact_start) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'),
             (SELECT min(prepared) - %(lag)s FROM pg_prepared_xacts WHERE database = current_database())) AS bound,
       clock_timestamp() AS clock,
       EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND query = '<insufficient privilege>') AS hidden;

-- exact_texts: until the transaction ends, moments come as texts in UTC, year first, and numbers with all their digits
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, YMD', true),
       set_config('extra_float_digits', '3', true);
