"""Asks the SQL cases by psycopg: postgres.py CASES PORT...

Text and binary forms of answers in turn, prepared statements, parameters of all types, errors by their classes, rows in
portions, and a statement that another connection stops.
"""

import datetime
import decimal
import sys
import threading

import psycopg

from cases import read_cases, same_row, shown


def judge(cursor, statement, mark, expected, binary):
    try:
        # Prepared, as with parameters: the extended protocol.
        cursor.execute(statement.encode(), binary=binary, prepare=True)
        found = ["|".join(map(shown, row)) for row in cursor.fetchall()]
    except psycopg.Error as error:
        told = f"{error.diag.message_primary} {error.diag.message_hint}"
        return None if mark == "!!!!" and "\n".join(expected) in told else f"{error.sqlstate} {told}"
    if mark == "!!!!":
        return f"answered {found}"
    if len(found) != len(expected):
        return f"expected {len(expected)} rows, got {found[:20]}"
    left = list(found)
    for at, row in enumerate(expected):
        fitting = [found[at]] if mark == "====" else left
        match = next((other for other in fitting if same_row(row, other)), None)
        if match is None:
            return f"no row is {row}, got {found[:20]}"
        left.remove(match)
    return None


def check(found, expected):
    assert found == expected, f"expected {expected!r}, got {found!r}"


def parameters(connection):
    cursor = connection.cursor()

    def one(statement, *values):
        return cursor.execute(statement, values).fetchone()

    check(one("select count(*) from up where instance = %s and value >= %s", "d:9090", 1), (20,))
    check(one("select count(*) from up where instance = %s and value >= %s", "d:9090", 0.5), (20,))
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    check(one("select min(time) >= %s from up", moment), (True,))
    check(one("select %s::double + 1", 1.5), (2.5,))
    check(one("select %s::bigint * 2, %s::text || 'x', %s::boolean", 21, "it's", True), (42, "it'sx", True))
    check(one("select %b::bigint + %b::double", 1, 0.25), (1.25,))
    check(one("select cast(%s as decimal(10,2))", decimal.Decimal("-12.50")), (decimal.Decimal("-12.50"),))
    check(one("select %s::text is null", None), (True,))
    for number in range(8):
        # Often enough that the driver prepares it.
        check(one("select %s::bigint", number), (number,))


def errors(connection):
    def state(statement):
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            return type(error), error.diag.statement_position
        raise AssertionError(f"{statement} was answered")

    check(state("select (")[0], psycopg.errors.SyntaxError)
    check(state("select 1 from nowhere")[0], psycopg.errors.UndefinedTable)
    # Characters, not bytes.
    check(state("select 'é', wrong from up"), (psycopg.errors.UndefinedColumn, "13"))
    check(state("drop table up")[0], psycopg.errors.ReadOnlySqlTransaction)


def transactions(port):
    with psycopg.connect(host="127.0.0.1", port=port, user="ann", dbname="default") as connection:
        check(connection.execute("select 1").fetchone(), (1,))
        check(connection.info.transaction_status, psycopg.pq.TransactionStatus.INTRANS)
        try:
            connection.execute("select nothing")
        except psycopg.errors.UndefinedColumn:
            pass
        try:
            connection.execute("select 1")
            raise AssertionError("a failed transaction answers")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        connection.rollback()
        with connection.transaction():
            check(connection.execute("select 2").fetchone(), (2,))


def streams(connection):
    rows = connection.cursor().stream("select v from generate_series(1, 20000) as t(v)")
    check(sum(value for (value,) in rows), 200010000)


def cancels(connection):
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    try:
        connection.execute("select count(*) from generate_series(1, 100000000000)")
        raise AssertionError("it was answered")
    except psycopg.errors.QueryCanceled:
        pass
    timer.join()
    check(connection.execute("select 1").fetchone(), (1,))


def main():
    path, ports = sys.argv[1], sys.argv[2:]
    connections = [
        psycopg.connect(host="127.0.0.1", port=port, user="ann", dbname="default", autocommit=True)
        for port in ports
    ]
    failures, count = [], 0
    for number, (line, statement, mark, rows) in enumerate(read_cases(path)):
        # Plans and intervals are written in other ways, settings are the session's, parameters come with values.
        is_other = any(word in statement.lower() for word in ("explain", "set datafusion", "$1"))
        if is_other or any("mins" in row for row in rows):
            continue
        count += 1
        for binary in (False, True):
            cursor = connections[number % len(connections)].cursor()
            wrong = judge(cursor, statement, mark, rows, binary)
            if wrong:
                failures.append(f"line {line} (binary {binary}): {statement}: {wrong}")
    assert count >= 150, count
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures)
    for what in (parameters, errors, streams, cancels):
        what(connections[0])
    transactions(ports[1])


main()
