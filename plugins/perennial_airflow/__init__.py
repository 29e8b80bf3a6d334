"""The Airflow side of Perennial: steps become tasks, Connections become resources, errors become task states."""
