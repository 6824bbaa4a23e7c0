"""Sends documents by the bulk helper of the Elasticsearch client: bulk.py URL INDEX

Prints what it sent, a row a line, as /api/v1/logs/query answers it.
"""

import datetime
import json
import sys

from elasticsearch import Elasticsearch, helpers

url, index = sys.argv[1:]
client = Elasticsearch(url, http_compress=True)
if not client.info()["version"]["number"].startswith("8."):
    sys.exit("another release than the client's")

# A search ends at its own moment: nothing is to lie behind that.
start = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(seconds=1)


def documents():
    for n in range(250):
        time = start + datetime.timedelta(milliseconds=n)
        message = f"GET /cart/{n} took {n}.75 ms" if n % 2 else f"größe \"{n}\"\n\tat Cart.java:{n}"
        document = {
            "@timestamp": time.isoformat(timespec="milliseconds"),
            "message": message,
            "log": {"level": "warn" if n % 2 else "error"},
            "http": {"response": {"status_code": 500 + n, "ok": False}},
            "took": n + 0.5,
            "tags": ["a", f"{n}"],
        }
        yield {"_op_type": "create" if n % 2 else "index", "_index": index, **document}
        row = {
            "timeUnixNano": f"{int(time.timestamp() * 1000)}000000",
            "level": document["log"]["level"],
            "severityNumber": 13 if n % 2 else 17,
            "severityText": document["log"]["level"],
            "body": message,
            "attributes": {
                "http.response.status_code": 500 + n,
                "http.response.ok": False,
                "took": n + 0.5,
                "tags": ["a", f"{n}"],
            },
            "resource": {"index": index},
        }
        print(json.dumps(row))


taken, failed = helpers.bulk(client, documents(), chunk_size=100)
if taken != 250 or failed:
    sys.exit(f"{taken} were taken, {failed} failed")
