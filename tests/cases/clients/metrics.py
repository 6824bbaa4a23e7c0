"""Exports metrics by the OpenTelemetry SDK: metrics.py grpc|http ENDPOINT none|gzip SERVICE"""

import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

protocol, endpoint, compression, service = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=endpoint,
        insecure=True,
        compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression,
    )
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=endpoint,
        compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression,
    )

resource = Resource(
    {
        "service.name": service,
        "service.namespace": "eu",
        "service.instance.id": "i-1",
        "k8s.pod.name": "pod-1",
        "host.name": "host-1",
    }
)
provider = MeterProvider(
    metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)],
    resource=resource,
    views=[View(instrument_name="payload.size", aggregation=ExponentialBucketHistogramAggregation())],
)
meter = provider.get_meter("shop", "1.0")

orders = meter.create_counter("orders.placed", unit="{order}", description="Orders that were placed")
orders.add(3, {"http.route": "/buy", "ok": True})
orders.add(4, {"http.route": "/cart", "ok": False})
meter.create_up_down_counter("queue.length").add(-2)
meter.create_gauge("cpu.utilization", unit="1").set(0.25, {"cpu": 0})
duration = meter.create_histogram(
    "request.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 0.5, 1.0]
)
for value in (0.05, 0.2, 0.3, 0.7, 5.0):
    duration.record(value)
size = meter.create_histogram("payload.size", unit="By")
for value in (1, 2, 4, 1000):
    size.record(value)

if not provider.force_flush(20_000):
    sys.exit("the export was not confirmed")
provider.shutdown()
