// Exports spans by the OpenTelemetry SDK: NODE_PATH=... node traces.js grpc|http|proto|zipkin ENDPOINT SERVICE
// Prints what it sent, a span a line: ids, name, kind, status, times, attributes, events and links.
const { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { TracerProvider, BatchSpanProcessor, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace');

const [protocol, url, service] = process.argv.slice(2);
function exporter() {
  if (protocol === 'zipkin') return new (require('@opentelemetry/exporter-zipkin').ZipkinExporter)({ url });
  const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${protocol}`);
  return new OTLPTraceExporter({ url });
}

const name = (of, value) => Object.keys(of).find((key) => of[key] === value).toLowerCase();
const nanos = ([seconds, rest]) => `${seconds}${String(rest).padStart(9, '0')}`;
/** Says what there was to send. */
const told = {
  export(spans, done) {
    for (const span of spans) {
      const { traceId, spanId } = span.spanContext();
      console.log(
        JSON.stringify({
          traceId,
          spanId,
          parentSpanId: span.parentSpanContext?.spanId ?? '',
          name: span.name,
          kind: name(SpanKind, span.kind),
          status: name(SpanStatusCode, span.status.code),
          statusMessage: span.status.message ?? '',
          startTimeUnixNano: nanos(span.startTime),
          endTimeUnixNano: nanos(span.endTime),
          attributes: span.attributes,
          events: span.events.map((e) => ({ name: e.name, timeUnixNano: nanos(e.time), attributes: e.attributes ?? {} })),
          links: span.links.map((l) => ({ traceId: l.context.traceId, attributes: l.attributes ?? {} })),
        }),
      );
    }
    done({ code: 0 });
  },
  shutdown: () => Promise.resolve(),
  forceFlush: () => Promise.resolve(),
};

const provider = new TracerProvider({
  resource: resourceFromAttributes({ 'service.name': service, 'host.cpus': 4 }),
  spanProcessors: [
    new SimpleSpanProcessor({ exporter: told }),
    // Several exports, so that traces come in pieces.
    new BatchSpanProcessor({ exporter: exporter(), maxExportBatchSize: 16 }),
  ],
});
const tracer = provider.getTracer('shop.cart', '0.9');
const kinds = [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER];
for (let n = 0; n < 20; n += 1) {
  const two = String(n).padStart(2, '0');
  const other = {
    traceId: `0af7651916cd43dd8448eb211c8031${two}`,
    spanId: `b7ad6b71692000${two}`,
    traceFlags: TraceFlags.SAMPLED,
  };
  const options = { kind: SpanKind.SERVER, links: [{ context: other, attributes: { n } }] };
  const root = tracer.startSpan(`GET /cart/${n % 3}`, options, ROOT_CONTEXT);
  root.setAttributes({ 'http.status_code': 200 + n, ratio: n / 8 + 0.03, ok: n % 2 === 0, route: 'Ünal', tags: ['a'] });
  for (let m = 0; m < 4; m += 1) {
    const step = tracer.startSpan(`step ${m}`, { kind: kinds[m] }, trace.setSpan(ROOT_CONTEXT, root));
    step.addEvent('took', { attempt: m });
    if (m === 3 && n % 4 === 0) step.setStatus({ code: SpanStatusCode.ERROR, message: 'no stock' });
    step.end();
  }
  if (n % 5 === 0) root.setStatus({ code: SpanStatusCode.OK });
  root.end();
}

provider
  .forceFlush()
  .then(() => provider.shutdown())
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
