// Resumable uploads with tus-js-client. Driven by compat/tus.py: DAV_URL, DAV_USER
// and DAV_PASSWORD say where, DAV_OTHER is the origin of another node that uploads go on through.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Upload } from "tus-js-client";
import { step } from "./step.mjs";

const login = Buffer.from(`${process.env.DAV_USER}:${process.env.DAV_PASSWORD}`).toString("base64");
const headers = process.env.DAV_USER ? { Authorization: `Basic ${login}` } : {};
const data = randomBytes(9_000_001);

// Resolves when the whole file was taken, or, with `until`, when that many bytes were and the upload was broken off.
function upload(filename, options = {}, until = Infinity) {
  return new Promise((resolve, reject) => {
    const one = new Upload(data, {
      endpoint: process.env.DAV_URL, retryDelays: null, storeFingerprintForResuming: false, headers,
      metadata: { filename, mtime: "1000000000" },
      onError: reject,
      onSuccess: () => resolve(one),
      onChunkComplete: (size, sent) => {
        if (sent >= until) one.abort().then(() => resolve(one), reject);
      },
      ...options,
    });
    one.start();
  });
}

async function same(name) {
  const answer = await fetch(process.env.DAV_URL + encodeURIComponent(name), { headers });
  assert.equal(answer.status, 200);
  assert.ok(Buffer.from(await answer.arrayBuffer()).equals(data), "other bytes");
  assert.equal(answer.headers.get("last-modified"), "Sun, 09 Sep 2001 01:46:40 GMT");
}

const status = async (name) => (await fetch(process.env.DAV_URL + name, { method: "HEAD", headers })).status;

await step("tus-js-client: a file of 9 MB at once", async () => {
  await upload("whole 100% ü.bin");
  await same("whole 100% ü.bin");
});
await step("tus-js-client: in pieces of 3 MB, data with the creation", async () => {
  await upload("pieces.bin", { chunkSize: 3_000_000, uploadDataDuringCreation: true });
  await same("pieces.bin");
});
await step("tus-js-client: broken off, nothing is seen, and it goes on through another node", async () => {
  const first = await upload("resumed.bin", { chunkSize: 2_000_000 }, 4_000_000);
  assert.equal(await status("resumed.bin"), 404);
  const { pathname } = new URL(first.url);
  let least = data.length;
  const onProgress = (sent) => (least = Math.min(least, sent));
  await upload("resumed.bin", { uploadUrl: new URL(pathname, process.env.DAV_OTHER).href, onProgress });
  assert.ok(least >= 4_000_000, `it began again at ${least}`);
  await same("resumed.bin");
});
await step("tus-js-client: given up", async () => {
  const first = await upload("given-up.bin", { chunkSize: 2_000_000 }, 2_000_000);
  await Upload.terminate(first.url, { headers, retryDelays: null });
  assert.equal((await fetch(first.url, { method: "HEAD", headers: { ...headers, "Tus-Resumable": "1.0.0" } })).status, 404);
  assert.equal(await status("given-up.bin"), 404);
});
