"""Perennial on one machine: an embedded PostgreSQL and Airflow's components as child processes. Never imports airflow."""
