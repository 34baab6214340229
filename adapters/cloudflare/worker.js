/**
 * Fairvisor for Cloudflare Workers: every request is decided before it goes to the origin.
 *
 * Variables: FAIRVISOR_URL (required), FAIRVISOR_ON_FAILURE (closed, open, reads-open),
 * FAIRVISOR_TIMEOUT_MS (500), UPSTREAM_URL (without it: the route's own origin). Secrets, if
 * Cloudflare Access guards FAIRVISOR_URL: CF_ACCESS_CLIENT_ID, CF_ACCESS_CLIENT_SECRET.
 */

const LONGEST_DELAY_MS = 30_000;
const READS = new Set(["GET", "HEAD", "OPTIONS"]);

// The daemon could not read what the client sent: the client's fault, and no way around a limit.
const UNREADABLE = new Set([400, 413, 414, 417, 431]);

// Refusals even without a reason.
const REFUSALS = new Set([401, 429]);

// Of one connection only, about a body that is not sent on, or what only a gateway may say.
const OWN = new Set([
  "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
  "forwarded", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
  "transfer-encoding", "upgrade", "via", "x-asn", "x-asn-type", "x-country-code",
  "x-token-estimate", "x-tor-exit",
]);
const OWN_PREFIXES = ["cf-", "x-fairvisor-", "x-forwarded-", "x-original-"];

const FOR_THE_CLIENT = new Set([
  "retry-after", "www-authenticate", "x-fairvisor-loop-count", "x-fairvisor-reason",
  "x-fairvisor-warning",
]);

const forTheClient = (name) =>
  FOR_THE_CLIENT.has(name) || name.startsWith("ratelimit") || name.startsWith("x-fairvisor-debug-");

/** The daemon reads "_" in a header's name as "-", and so does this. */
const canonical = (name) => name.toLowerCase().replaceAll("_", "-");

/** Return the headers of the question: what the client sent, less what only a gateway may say. */
export function questionHeaders(request, env) {
  const headers = new Headers();
  for (const [raw, value] of request.headers) {
    const name = canonical(raw);
    if (OWN.has(name) || OWN_PREFIXES.some((prefix) => name.startsWith(prefix))) continue;
    if (raw.includes("_") && request.headers.has(name)) continue;
    headers.set(name, value);
  }
  const url = new URL(request.url);
  headers.set("X-Original-Method", request.method);
  headers.set("X-Original-URI", url.pathname + url.search);
  headers.set("X-Original-Host", url.host);
  headers.set("X-Fairvisor-Prefer", "delay-header");
  const client = request.headers.get("CF-Connecting-IP");
  if (client) headers.set("X-Forwarded-For", client);
  for (const [name, value] of Object.entries(whereabouts(request.cf))) headers.set(name, value);
  if (env.CF_ACCESS_CLIENT_ID) {
    headers.set("CF-Access-Client-Id", env.CF_ACCESS_CLIENT_ID);
    headers.set("CF-Access-Client-Secret", env.CF_ACCESS_CLIENT_SECRET);
  }
  return headers;
}

/** Return what Cloudflare knows of the client's address: T1 is Tor, XX is nowhere known. */
export function whereabouts(cf) {
  const found = {};
  if (/^[A-Z]{2}$/.test(cf?.country ?? "") && cf.country !== "XX") {
    found["X-Country-Code"] = cf.country;
  }
  if (Number.isInteger(cf?.asn)) found["X-ASN"] = String(cf.asn);
  if (cf?.country) found["X-Tor-Exit"] = String(cf.country === "T1");
  return found;
}

/** Ask for one decision. Throws when there is none in time. */
async function ask(request, env) {
  const answer = await fetch(new URL("/v1/decision", env.FAIRVISOR_URL), {
    headers: questionHeaders(request, env),
    redirect: "manual",
    signal: AbortSignal.timeout(Number(env.FAIRVISOR_TIMEOUT_MS ?? 500)),
  });
  const body = await answer.text();
  const { status, headers } = answer;
  const refused = headers.has("X-Fairvisor-Reason") || REFUSALS.has(status);
  if (status !== 200 && !refused && !UNREADABLE.has(status)) {
    throw new Error(`it answered ${status}`);
  }
  return { status, headers, body, readable: status === 200 || refused };
}

function refusal(status, error, more = {}) {
  const headers = { "Content-Type": "application/json", ...more };
  return new Response(JSON.stringify({ error }), { status, headers });
}

function rejected(decision) {
  if (!decision.readable) return refusal(decision.status, "bad_request");
  const headers = new Headers({ "Content-Type": "application/json" });
  for (const [name, value] of decision.headers) {
    if (forTheClient(name)) headers.set(name, value);
  }
  return new Response(decision.body, { status: decision.status, headers });
}

function undecided(request, env, error) {
  console.error(`Fairvisor did not decide: ${error.message}`);
  const way = env.FAIRVISOR_ON_FAILURE ?? "closed";
  if (way === "open" || (way === "reads-open" && READS.has(request.method))) return undefined;
  return refusal(503, "service_unavailable", {
    "Retry-After": "1",
    "X-Fairvisor-Reason": "service_unavailable",
  });
}

async function forward(request, env, decision) {
  const url = new URL(request.url);
  const target = env.UPSTREAM_URL ? new URL(url.pathname + url.search, env.UPSTREAM_URL) : url;
  const response = await fetch(new Request(target, request), { redirect: "manual" });
  if (response.webSocket || !decision) return response;
  const answer = new Response(response.body, response);
  for (const [name, value] of decision.headers) {
    if (forTheClient(name)) answer.headers.set(name, value);
  }
  return answer;
}

export default {
  async fetch(request, env) {
    let decision;
    try {
      decision = await ask(request, env);
    } catch (error) {
      const refused = undecided(request, env, error);
      if (refused) return refused;
    }
    if (decision && decision.status !== 200) return rejected(decision);
    const delay = Number(decision?.headers.get("X-Fairvisor-Delay-Ms") ?? 0);
    if (delay > 0) {
      await new Promise((done) => setTimeout(done, Math.min(delay, LONGEST_DELAY_MS)));
    }
    return forward(request, env, decision);
  },
};
