"""A small file that unpacks to gigabytes is refused before it does."""

import gzip
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_files import sightings_files

from perennial.errors import FileRefused
from perennial.shell import file_source

MOMENT = pa.scalar(1_767_261_600_000_000, pa.timestamp("us", "UTC"))


def bomb(path, rows=25_000, length=40_000):
    """A few kilobytes of Parquet that hold one long text many times."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * length]))
    numbers = pa.array(range(rows), pa.int64())
    table = pa.table({"id": numbers, "seen_at": pa.array([MOMENT.as_py()] * rows, MOMENT.type), "country": text,
                      "length": pa.nulls(rows, pa.float64()), "weight": pa.nulls(rows, pa.float64())})  # fmt: skip
    pq.write_table(table, path, compression="zstd")


def test_one_long_text_that_is_there_many_times_is_refused(tmp_path):
    bomb(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    source = replace(sightings_files, format="parquet")
    with pytest.raises(FileRefused, match="It unpacks to more than"):
        list(file_source.tables(tmp_path / "a.parquet", "a.parquet", source))


def test_no_more_memory_is_taken_for_it_than_for_some_chunks(tmp_path):
    bomb(tmp_path / "a.parquet")
    code = """
import sys, resource
from dataclasses import replace
from pathlib import Path
from toy_files import sightings_files
from perennial.errors import FileRefused
from perennial.shell import file_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for reading in file_source.tables(Path(sys.argv[1]), "a.parquet", replace(sightings_files, format="parquet")):
        del reading
except FileRefused:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.parquet")], capture_output=True, text=True, check=True,
                         env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert int(ran.stdout) < 150_000  # kilobytes; 2 GB when the column is unpacked at once


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz"])
def test_a_gzip_that_unpacks_to_a_hundred_times_more_than_others_is_refused(tmp_path, ending):
    header, row = b"id,seen_at,country,length,weight,note\n", b"1,2026-01-01T10:00:00Z,Britain,1,2,%b\n"
    if ending.startswith("jsonl"):
        header = b""
        row = b'{"id": 1, "seen_at": "2026-01-01T10:00:00Z", "country": "Britain", "length": 1, "weight": 2, "note": "%b"}\n'
    row %= b"x" * 100_000
    path = tmp_path / "file"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header)
        for _ in range(120):
            file.write(row * (1_000_000 // len(row)))
    source = replace(sightings_files, format=ending.split(".")[0])
    with pytest.raises(FileRefused, match="It unpacks to more than"):
        for reading in file_source.tables(path, f"a.{ending}", source):
            assert reading.rows.num_rows <= file_source.CHUNK_ROWS * 10


def test_a_long_file_that_repeats_itself_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"id,seen_at,country,length,weight\n" + b"1,2026-01-01T10:00:00Z,Britain,1,2\n" * 500_000))
    rows = sum(reading.rows.num_rows for reading in file_source.tables(path, "a.csv.gz", sightings_files))
    assert rows == 500_000
