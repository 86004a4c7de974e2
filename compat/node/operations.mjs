// What programs do with Node's package webdav. Driven by compat/node_webdav.py:
// DAV_URL, DAV_USER and DAV_PASSWORD say where.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { createClient } from "webdav";
import { step } from "./step.mjs";

const login = process.env.DAV_USER ? { username: process.env.DAV_USER, password: process.env.DAV_PASSWORD } : {};
const client = createClient(process.env.DAV_URL, login);
const data = randomBytes(5_000_003);
const odd = "Übersicht 100% a+b #1 & co; [2] 日本.txt";

async function refused(status, work) {
  await assert.rejects(work, (error) => {
    assert.equal(error.status, status);
    return true;
  });
}

const same = (got, wanted) => assert.ok(Buffer.from(got).equals(Buffer.from(wanted)), "other bytes");

await step("getDAVCompliance", async () => {
  const told = await client.getDAVCompliance("/");
  assert.ok(["1", "2", "sabredav-partialupdate"].every((part) => told.compliance.includes(part)));
});
await step("createDirectory; a second time is refused", async () => {
  await client.createDirectory("/papers");
  await refused(405, () => client.createDirectory("/papers"));
  await client.createDirectory("/a/b/c", { recursive: true });
});
await step("putFileContents, 5 MB, and getFileContents", async () => {
  assert.equal(await client.putFileContents("/large.bin", data), true);
  same(await client.getFileContents("/large.bin"), data);
});
await step("putFileContents of a stream", async () => {
  await client.putFileContents("/piped.bin", Readable.from([data.subarray(0, 7), data.subarray(7)]), {
    contentLength: data.length,
  });
  same(await client.getFileContents("/piped.bin"), data);
});
await step("what is there is not written over when overwrite is false", async () => {
  assert.equal(await client.putFileContents("/note.txt", "first", { overwrite: false }), true);
  assert.equal(await client.putFileContents("/note.txt", "second", { overwrite: false }), false);
  assert.equal(await client.getFileContents("/note.txt", { format: "text" }), "first");
});
await step("createWriteStream", async () => {
  await new Promise((resolve, reject) => {
    const stream = client.createWriteStream("/streamed.bin", {}, (answer) =>
      answer.status < 300 ? resolve() : reject(new Error(`answered ${answer.status}`)),
    );
    stream.on("error", reject);
    stream.write(data.subarray(0, 1000));
    stream.end(data.subarray(1000));
  });
  same(await client.getFileContents("/streamed.bin"), data);
});
await step("createReadStream of a range", async () => {
  const part = await buffer(client.createReadStream("/large.bin", { range: { start: 4194300, end: 4194310 } }));
  same(part, data.subarray(4194300, 4194311));
});
await step("partialUpdateFileContents", async () => {
  await client.partialUpdateFileContents("/large.bin", 4194300, 4194309, "0123456789");
  const wanted = Buffer.from(data);
  wanted.write("0123456789", 4194300);
  same(await client.getFileContents("/large.bin"), wanted);
});
await step("stat", async () => {
  const told = await client.stat("/large.bin");
  assert.equal(told.type, "file");
  assert.equal(told.size, data.length);
  assert.ok(told.etag && Date.parse(told.lastmod) > 0);
  assert.equal((await client.stat("/papers")).type, "directory");
  assert.equal(await client.exists("/never"), false);
  assert.equal(await client.exists("/papers"), true);
});
await step("odd names, getDirectoryContents", async () => {
  await client.putFileContents(`/papers/${odd}`, "odd");
  const listed = await client.getDirectoryContents("/papers");
  assert.deepEqual(listed.map((item) => [item.basename, item.size]), [[odd, 3]]);
  assert.equal(await client.getFileContents(listed[0].filename.replace(/^.*\/papers/, "/papers"), { format: "text" }), "odd");
});
await step("copyFile, moveFile, of files and folders", async () => {
  await client.copyFile("/large.bin", "/papers/copy.bin");
  await client.moveFile("/papers/copy.bin", "/papers/moved.bin");
  await client.copyFile("/papers", "/papers 2");
  await client.moveFile("/papers", "/papers 3");
  const names = async (folder) => (await client.getDirectoryContents(folder)).map((item) => item.basename).sort();
  assert.deepEqual(await names("/papers 2"), await names("/papers 3"));
  assert.equal(await client.exists("/papers"), false);
});
await step("copyFile and moveFile onto something are refused when overwrite is false", async () => {
  await refused(412, () => client.copyFile("/large.bin", "/note.txt", { overwrite: false }));
  await refused(412, () => client.moveFile("/large.bin", "/note.txt", { overwrite: false }));
});
await step("lock, a write without the token, unlock", async () => {
  const lock = await client.lock("/note.txt");
  assert.ok(lock.token);
  await refused(423, () => client.putFileContents("/note.txt", "no"));
  await client.putFileContents("/note.txt", "yes", { headers: { If: `(<${lock.token}>)` } });
  await client.unlock("/note.txt", `<${lock.token}>`);
  await client.putFileContents("/note.txt", "after");
});
await step("getQuota", async () => {
  const told = await client.getQuota({ path: "/" });
  assert.ok(told.available > 0 && told.used >= data.length);
});
await step("deleteFile, and what is not there", async () => {
  await client.deleteFile("/papers 2");
  await client.deleteFile("/large.bin");
  await refused(404, () => client.deleteFile("/large.bin"));
  await refused(404, () => client.getFileContents("/large.bin"));
});
