"""Exports logs by the OpenTelemetry SDK: logs.py grpc|http ENDPOINT none|gzip SERVICE

Prints what it sent, a row a line, as /api/v1/logs/query answers it.
"""

import json
import sys
import time

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

protocol, endpoint, compression, service = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(
        endpoint=endpoint,
        insecure=True,
        compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression,
    )
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    exporter = OTLPLogExporter(
        endpoint=endpoint,
        compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression,
    )

resource = {"service.name": service, "service.version": "1.2", "host.cpus": 4, "tags": ["a", "b"]}
provider = LoggerProvider(resource=Resource(resource))
# Several exports, the last of them not full.
provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_export_batch_size=64))
logger = provider.get_logger("shop.cart", "0.9")

LEVELS = [
    (SeverityNumber.DEBUG, "DEBUG", "debug"),
    (SeverityNumber.INFO, "INFO", "info"),
    (SeverityNumber.WARN2, "WARNING", "warn"),
    (SeverityNumber.ERROR, "ERROR", "error"),
]
BODIES = [
    "order 000{n} of user-{n} took {n}.50 ms from 10.0.0.{n}",
    'größe="{n}" \\ path=C:\\temp\\{n}\ttab',
    "Traceback:\n  File \"x.py\", line {n}\nValueError: 0x{n:08X}",
    '{{"nested": {{"n": {n}}}}}',
]
start = time.time_ns()
for n in range(200):
    number, text, level = LEVELS[n % 4]
    body = BODIES[n // 4 % 4].format(n=n)
    row = {
        "timeUnixNano": str(start + n),
        "observedTimeUnixNano": str(start + n + 1),
        "level": level,
        "severityNumber": number.value,
        "severityText": text,
        "body": body,
        "attributes": {"http.status_code": 200 + n, "ratio": n / 8, "ok": n % 2 == 0, "route": f"/cart/{n}"},
        "resource": resource,
        "scope": {"name": "shop.cart", "version": "0.9"},
    }
    attributes = dict(row["attributes"])
    if n % 3 == 0:
        attributes["user"] = {"id": n, "name": "Ünal"}
        row["attributes"] |= {"user.id": n, "user.name": "Ünal"}
    context = None
    if n % 5 == 0:
        trace_id, span_id = 0x0AF7651916CD43DD8448EB211C803100 + n, 0xB7AD6B7169200000 + n
        row |= {"traceId": f"{trace_id:032x}", "spanId": f"{span_id:016x}", "flags": 1}
        span = trace.SpanContext(trace_id, span_id, False, trace.TraceFlags(1))
        context = trace.set_span_in_context(trace.NonRecordingSpan(span))
    logger.emit(
        timestamp=start + n,
        observed_timestamp=start + n + 1,
        context=context,
        severity_number=number,
        severity_text=text,
        body=body,
        attributes=attributes,
    )
    print(json.dumps(row))

if not provider.force_flush(20_000):
    sys.exit("the export was not confirmed")
provider.shutdown()
