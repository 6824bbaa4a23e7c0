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
    rolldownOptions: {
      output: {
        // What every screen needs is one file: many small ones compress worse and are more to ask for.
        codeSplitting: {
          groups: [
            {
              name: 'base',
              test: /node_modules\/(react|react-dom|scheduler|use-sync-external-store|zustand|@tanstack\/(?!.*virtual)[^/]+)\/|src\/(lib\/(time|units|labels|colour|frame|traceform)|api\/(client|prometheus)|state\/(clock|prefs|keys|queries|theme)|components\/(states|ui))\.tsx?$/,
            },
          ],
        },
      },
    },
  },
  server: {
    proxy: Object.fromEntries(
      ['/api', '/loki/', '/v1/', '/cluster/status', '/metrics', '/-/'].map((path) => [
        path,
        { target: server, ws: true },
      ]),
    ),
  },
  test: {
    environment: 'jsdom',
    setupFiles: ['./test/setup.ts'],
    include: ['src/**/*.test.{ts,tsx}'],
  },
});
