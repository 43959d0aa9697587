// Requests to our own server; a problem becomes an Error that says what to do.
export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The atlas does not answer. Is it still running? Nothing you wrote is lost.");
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const error = new Error([answer.error, answer.remedy].filter(Boolean).join(" ") || response.statusText);
    error.status = response.status;
    error.answer = answer;
    throw error;
  }
  return answer;
}

// A part of a page, as rendered (and made safe) by the server.
export async function fragment(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
  return [...parsed.body.childNodes].map((node) => document.importNode(node, true));
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
