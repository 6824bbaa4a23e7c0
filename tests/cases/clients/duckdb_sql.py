"""Compares answers with DuckDB's: duckdb_sql.py CASES URL

Exports every metric as CSV over /api/v1/sql, loads it into DuckDB, asks both the statements of the cases, and compares. A
statement that DuckDB does not understand is left out; how many are compared at least is checked.
"""

import csv
import io
import json
import os
import sys
import tempfile
import urllib.parse
import urllib.request

import duckdb

from cases import read_cases, same_row, shown

AT_LEAST = 160

# Where both are right in their own ways: a part of the statement, and why.
OTHERWISE = [
    ("like '%100\\%'", "a backslash escapes in PostgreSQL without being asked to"),
    ("7 / 2", "whole numbers are divided to whole numbers in PostgreSQL"),
    ("information_schema", "what tables and types are called is each one's own"),
]

TYPES = {"text": "VARCHAR", "double": "DOUBLE", "timestamp": "TIMESTAMP", "bigint": "BIGINT", "map": "VARCHAR"}


def ask(url, statement, form):
    body = urllib.parse.urlencode({"query": statement, "format": form}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/sql", body) as response:
        return response.read().decode()


def export(url, database, table, directory):
    columns = json.loads(ask(url, f"select * from {table} limit 0", "json"))["data"]["columns"]
    path = os.path.join(directory, "export.csv")
    with open(path, "w") as file:
        file.write(ask(url, f"select * from {table}", "csv"))
    types = {column["name"]: TYPES[column["type"]] for column in columns}
    is_map = [column["name"] for column in columns if column["type"] == "map"]
    replaced = "".join(f' replace (cast("{name}"::json as map(varchar, varchar)) as "{name}")' for name in is_map)
    database.execute(
        f"create table {table} as select *{replaced} from read_csv(?, header = true, columns = ?, "
        "nullstr = '', allow_quoted_nulls = false)",
        [path, types],
    )


def rows_of(url, statement):
    rows = json.loads(ask(url, statement, "json"))["data"]["rows"]
    return ["|".join(shown(field) for field in row) for row in rows]


def differences(ours, theirs, ordered):
    if len(ours) != len(theirs):
        return f"{len(ours)} rows, DuckDB has {len(theirs)}: {ours[:5]} {theirs[:5]}"
    left = list(theirs)
    for at, row in enumerate(ours):
        fitting = [theirs[at]] if ordered else left
        match = next((other for other in fitting if same_row(row, other)), None)
        if match is None:
            return f"{row} is not among DuckDB's {left[:5]}"
        left.remove(match)
    return None


def main():
    path, url = sys.argv[1:]
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    names = [row for row in csv.reader(io.StringIO(ask(url, "select distinct name from metrics", "csv")))][1:]
    with tempfile.TemporaryDirectory() as directory:
        for table in ["metrics"] + [f'"{name}"' for (name,) in names]:
            export(url, database, table, directory)
    compared, failures = 0, []
    for line, statement, mark, _ in read_cases(path):
        if mark == "!!!!" or any(part in statement for part, _ in OTHERWISE):
            continue
        try:
            found = database.execute(statement).fetchall()
        except duckdb.Error:
            continue
        compared += 1
        theirs = ["|".join(map(shown, row)) for row in found]
        wrong = differences(rows_of(url, statement), theirs, mark == "====")
        if wrong:
            failures.append(f"line {line}: {statement}: {wrong}")
    assert not failures, f"{len(failures)} of {compared}:\n" + "\n".join(failures)
    assert compared >= AT_LEAST, f"{compared} statements are compared, {AT_LEAST} at least should be"


main()
