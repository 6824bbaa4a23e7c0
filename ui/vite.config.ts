/// <reference types="vitest/config" />
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { precompress } from './scripts/precompress.mjs';

// Where `npm run dev` sends what is not ours: any node of a running cluster.
const server = process.env.PHAROS_URL ?? 'http://127.0.0.1:9601';

export default defineConfig({
  base: './',
  plugins: [react(), precompress()],
  build: {
    target: 'es2022',
    sourcemap: false,
    manifest: 'manifest.json',
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 600,
  },
  server: {
    proxy: Object.fromEntries(
      ['/api', '/cluster/status', '/metrics', '/-/'].map((path) => [path, { target: server, ws: true }]),
    ),
  },
  test: {
    environment: 'jsdom',
    setupFiles: ['./test/setup.ts'],
    include: ['src/**/*.test.{ts,tsx}'],
  },
});
