/* The server that the page came from: asked with a token where it wants one, and read as it writes. */
class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

class Server {
  /* Kept for the tab alone, and sent nowhere else. */
  get token() { return sessionStorage.getItem("token") ?? ""; }
  set token(value) { if (value) sessionStorage.setItem("token", value); else sessionStorage.removeItem("token"); }

  async ask(path, { body, signal } = {}) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const isFile = body instanceof Blob;
    if (body !== undefined) headers["Content-Type"] = isFile ? "application/octet-stream" : "application/json";
    const answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers, signal, cache: "no-store", credentials: "omit",
      body: body === undefined || isFile ? body : JSON.stringify(body),
    });
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => null);
    throw new Refused(answer.status, said?.error?.message ?? `the server answers ${answer.status}`);
  }

  async json(path, options) { return (await this.ask(path, options)).json(); }

  /* The server-sent events of an answer, as they come; raises Refused for one that is an error. */
  async *stream(path, options) {
    const reader = (await this.ask(path, options)).body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        const said = message.replace(/^data: ?/, "");
        if (said === "[DONE]") return;
        const told = JSON.parse(said);
        if (told.error) throw new Refused(500, told.error.message);
        yield told;
      }
    }
  }
}
