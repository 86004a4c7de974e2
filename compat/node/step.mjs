// A row of a runner's table: one JSON line on stdout for each operation. One that throws is a failed row, later ones still run.
export async function step(name, work) {
  const began = performance.now();
  let detail = "";
  try {
    await work();
  } catch (error) {
    detail = `${error}`.slice(0, 600) || "failed";
  }
  console.log(JSON.stringify({ name, ok: detail === "", seconds: (performance.now() - began) / 1000, detail }));
}
