// A translation as server-sent events: deltas of the text, then the whole answer.

/**
 * Translates and tells each piece as it comes.
 *
 * @param {object} request A TranslateRequest in JSON.
 * @param {object} headers With the token, if there is one.
 * @param {AbortSignal} signal Ends it, on the server too.
 * @param {(text: string) => void} onDelta Takes what follows of the translation.
 * @returns {Promise<object>} The TranslateResponse.
 */
export async function streamTranslation(request, headers, signal, onDelta) {
  const response = await fetch("/v1/translate", {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) {
    const { error } = await response.json();
    throw Object.assign(new Error(error.message), { status: response.status });
  }
  for await (const { event, data } of events(response.body)) {
    if (event === "delta") onDelta(data.text);
    else if (event === "answer") return data;
    else if (event === "error") throw new Error(data.error.message);
  }
  throw new Error("the server ended the answer early; try again");
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}
