"""The SQL cases, and how rows are compared with them."""

import datetime
import json
import math


def shown(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, repr(value))
    if isinstance(value, datetime.datetime):
        text = value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
        return text.replace("+00:00", "") + "Z"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"), default=shown)
    return str(value)


def same_field(a, b):
    if a == b:
        return True
    try:
        a, b = float(a), float(b)
    except ValueError:
        return False
    return a == b or abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def same_row(a, b):
    a, b = a.split("|"), b.split("|")
    return len(a) == len(b) and all(map(same_field, a, b))


def read_cases(path):
    statement, rows, mark, line_of = [], [], None, 0
    for number, line in enumerate(open(path).read().split("\n") + [""], 1):
        if mark is None and (line == "" or line.startswith("#")) and not statement:
            continue
        if mark is None and line in ("----", "====", "!!!!"):
            mark = line
        elif mark is None:
            line_of = line_of or number
            statement.append(line)
        elif line == "":
            yield line_of, "\n".join(statement), mark, rows
            statement, rows, mark, line_of = [], [], None, 0
        else:
            rows.append(line)
