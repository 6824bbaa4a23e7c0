"""Exports spans by the OpenTelemetry SDK: traces.py grpc|http|zipkin ENDPOINT none|gzip SERVICE

Prints what it sent, a span a line: ids, name, kind, status, times, attributes, events and links.
"""

import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

protocol, endpoint, compression, service = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True, compression=kind)
elif protocol == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    exporter = OTLPSpanExporter(endpoint=endpoint, compression=kind)
else:
    from opentelemetry.exporter.zipkin.json import ZipkinExporter

    exporter = ZipkinExporter(endpoint=endpoint)


class Told(SpanExporter):
    """Says what there was to send."""

    def export(self, spans):
        for span in spans:
            status = span.status.status_code.name.lower()
            row = {
                "traceId": f"{span.context.trace_id:032x}",
                "spanId": f"{span.context.span_id:016x}",
                "parentSpanId": f"{span.parent.span_id:016x}" if span.parent else "",
                "name": span.name,
                "kind": span.kind.name.lower(),
                "status": status,
                "statusMessage": span.status.description or "",
                "startTimeUnixNano": str(span.start_time),
                "endTimeUnixNano": str(span.end_time),
                "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in span.attributes.items()},
                "events": [
                    {"name": e.name, "timeUnixNano": str(e.timestamp), "attributes": dict(e.attributes)}
                    for e in span.events
                ],
                "links": [
                    {"traceId": f"{link.context.trace_id:032x}", "attributes": dict(link.attributes)}
                    for link in span.links
                ],
            }
            print(json.dumps(row))
        return SpanExportResult.SUCCESS


provider = TracerProvider(resource=Resource({"service.name": service, "host.cpus": 4}))
provider.add_span_processor(SimpleSpanProcessor(Told()))
# Several exports, so that traces come in pieces.
provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=16))
tracer = provider.get_tracer("shop.cart", "0.9")

KINDS = [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]
for n in range(20):
    other = SpanContext(0x0AF7651916CD43DD8448EB211C803100 + n, 0xB7AD6B7169200000 + n, False, TraceFlags(1))
    with tracer.start_as_current_span(f"GET /cart/{n % 3}", kind=SpanKind.SERVER, links=[Link(other, {"n": n})]) as root:
        root.set_attributes({"http.status_code": 200 + n, "ratio": n / 8, "ok": n % 2 == 0, "route": "Ünal", "tags": ["a"]})
        for m in range(4):
            with tracer.start_as_current_span(f"step {m}", kind=KINDS[m]) as step:
                step.add_event("took", {"attempt": m})
                if m == 3 and n % 4 == 0:
                    step.set_status(Status(StatusCode.ERROR, "no stock"))
        if n % 5 == 0:
            root.set_status(Status(StatusCode.OK))

if not provider.force_flush(20_000):
    sys.exit("the export was not confirmed")
provider.shutdown()
