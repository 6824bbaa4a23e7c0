"""Logs by python-logging-loki: loki.py URL APPLICATION

Prints what it sent, a row a line, as /api/v1/logs/query answers it. The library takes the time itself, so that is read
from its requests.
"""

import json
import logging
import sys

import logging_loki

url, application = sys.argv[1:]
logging.raiseExceptions = True
handler = logging_loki.LokiHandler(url=url, tags={"application": application}, version="1")
handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))


def refuse(record):
    raise sys.exc_info()[1]


def sent(response, *_arguments, **_more):
    response.raise_for_status()
    for stream in json.loads(response.request.body)["streams"]:
        for time, line in stream["values"]:
            level = stream["stream"]["severity"]
            severity = {"info": ("info", 9), "warning": ("warn", 13)}[level]
            row = {
                "timeUnixNano": time,
                "level": severity[0],
                "severityNumber": severity[1],
                "body": line,
                "resource": stream["stream"],
            }
            print(json.dumps(row))


handler.handleError = refuse
handler.emitter.session.hooks["response"].append(sent)
logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
logger.addHandler(handler)
for n in range(60):
    if n % 3:
        logger.info("order %d of größe=%r", n, n * 1.5, extra={"tags": {"zone": "eu"}})
    else:
        logger.warning("refused %d\n\tby 10.0.0.%d:5432", n, n)
