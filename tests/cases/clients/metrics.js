// Exports metrics by the OpenTelemetry SDK as JSON: NODE_PATH=... node metrics.js ENDPOINT SERVICE
const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-http');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');

const [url, service] = process.argv.slice(2);
const reader = new PeriodicExportingMetricReader({
  exporter: new OTLPMetricExporter({ url }),
  exportIntervalMillis: 3_600_000,
});
const provider = new MeterProvider({
  resource: resourceFromAttributes({ 'service.name': service, 'service.version': '2.0' }),
  readers: [reader],
});
const meter = provider.getMeter('web');
const views = meter.createCounter('page.views');
views.add(2, { page: 'home' });
views.add(1, { page: 'größe', ok: true });
const load = meter.createHistogram('page.load', { unit: 'ms', advice: { explicitBucketBoundaries: [5, 10] } });
for (const value of [1, 7, 70]) load.record(value);

provider.shutdown().catch((error) => {
  console.error(error);
  process.exit(1);
});
