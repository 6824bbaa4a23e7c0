// Exports logs by the OpenTelemetry SDK: NODE_PATH=... node logs.js grpc|http|proto ENDPOINT SERVICE
// Prints what it sent, a row a line, as /api/v1/logs/query answers it.
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');

const [protocol, url, service] = process.argv.slice(2);
const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${protocol}`);
const resource = { 'service.name': service, 'process.pid': 77 };
const provider = new LoggerProvider({
  resource: resourceFromAttributes(resource),
  processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter({ url }), maxExportBatchSize: 64 })],
});
const logger = provider.getLogger('web', '2.0');
// A search ends at its own moment: nothing is to lie behind that.
const start = Date.now() - 1000;
for (let n = 0; n < 150; n += 1) {
  const attributes = { 'page.name': `/größe/${n}`, ok: n % 2 === 0, load: n + 0.25, tags: ['x', `${n}`] };
  const body = n % 2 ? `view ${n} took ${n}.125 s\n\tat line ${n}` : `{"view": ${n}}`;
  const record = { severityNumber: 9, severityText: 'Info', body, attributes };
  logger.emit({ ...record, timestamp: start + n, observedTimestamp: start + n + 1 });
  const ns = (ms) => `${ms}000000`;
  console.log(
    JSON.stringify({
      ...record,
      timeUnixNano: ns(start + n),
      observedTimeUnixNano: ns(start + n + 1),
      level: 'info',
      resource,
      scope: { name: 'web', version: '2.0' },
    }),
  );
}

provider
  .forceFlush()
  .then(() => provider.shutdown())
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
