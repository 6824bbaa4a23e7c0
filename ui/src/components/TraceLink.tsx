// The way to the trace of a request, which the cluster writes into a tenant of its own.

import { Link } from '@tanstack/react-router';
import { useSystemMetrics } from '../state/system';
import { CopyButton } from './ui';
import '../style/inspect.css';

export default function TraceLink({ id }: { id: string }) {
  const { tenant } = useSystemMetrics();
  return (
    <span className="trace-of">
      trace{' '}
      <Link to="/trace/$id" params={{ id }} search={{ tenant }} title="What the cluster did for this request">
        <code>{id}</code>
      </Link>
      <CopyButton text={id} label="Copy the id of the trace" />
    </span>
  );
}
