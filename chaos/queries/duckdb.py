"""DuckDB's side of `pharos bench sql`: python3 - URL DIRECTORY < this file, with the task as JSON in the variable TASK.

Every table of the task is exported from Pharos as Arrow, written as a Parquet file, and asked the task's questions. What it
took and what came out is printed as JSON. Needs duckdb and pyarrow from PyPI.
"""

import json
import os
import sys
import time
import urllib.parse
import urllib.request

import duckdb
import pyarrow.ipc
import pyarrow.parquet

url, directory = sys.argv[1:3]
task = json.loads(os.environ["TASK"])
database = duckdb.connect()
database.execute("SET timezone = 'UTC'")

for name, statement in task["tables"].items():
    form = urllib.parse.urlencode({"query": statement, "format": "arrow"}).encode()
    path = os.path.join(directory, f"{name}.parquet")
    with urllib.request.urlopen(f"{url}/api/v1/sql", form) as answer, pyarrow.ipc.open_stream(answer) as batches:
        with pyarrow.parquet.ParquetWriter(path, batches.schema) as file:
            for batch in batches:
                file.write_batch(batch)
    database.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")

answers = {}
for question in task["questions"]:
    times, begun = [], time.monotonic()
    while not times or (len(times) < task["runs"] and time.monotonic() - begun < task["patience"]):
        started = time.monotonic()
        if question["raw"]:
            rows = [[database.sql(question["text"]).to_arrow_table().num_rows]]
        else:
            rows = database.execute(question["text"]).fetchall()
        times.append((time.monotonic() - started) * 1e3)
    answers[question["name"]] = {"times": sorted(times), "rows": rows}

print(json.dumps({"version": duckdb.__version__, "answers": answers}, default=str))
