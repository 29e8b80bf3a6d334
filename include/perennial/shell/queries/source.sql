-- safe_bound: the latest changed_at that no open transaction can still write before, and the source's clock
SELECT least(clock_timestamp() - %(lag)s,
             (SELECT min(xact_start) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'),
             (SELECT min(prepared) - %(lag)s FROM pg_prepared_xacts WHERE database = current_database())) AS bound,
       clock_timestamp() AS clock,
       EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND query = '<insufficient privilege>') AS hidden;
