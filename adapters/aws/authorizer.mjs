/**
 * Fairvisor as an Amazon API Gateway Lambda authorizer, for Node 20 and later.
 *
 * REST APIs (REQUEST type) and HTTP APIs, payload versions 1.0 and 2.0. Variables: FAIRVISOR_URL
 * (required), FAIRVISOR_ON_FAILURE (closed, open, reads-open), FAIRVISOR_TIMEOUT_MS (500),
 * FAIRVISOR_LONGEST_DELAY_MS (5000), FAIRVISOR_RESPONSE (iam; without it: iam for payload 1.0,
 * simple for 2.0, as the API's authorizer is set up).
 */

const READS = new Set(["GET", "HEAD", "OPTIONS"]);

// The daemon could not read what the client sent: the client's fault, and no way around a limit.
const UNREADABLE = new Set([400, 413, 414, 417, 431]);

// Refusals even without a reason.
const REFUSALS = new Set([401, 429]);

// Of one connection only, about a body that is not here, or what only a gateway may say.
const OWN = new Set([
  "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
  "forwarded", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer",
  "transfer-encoding", "upgrade", "via", "x-asn", "x-asn-type", "x-country-code",
  "x-token-estimate", "x-tor-exit",
]);
const OWN_PREFIXES = ["x-fairvisor-", "x-forwarded-", "x-original-"];

const canonical = (name) => name.toLowerCase().replaceAll("_", "-");

const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16)}`);

/** Return path and query as the client sent them, as far as the event still knows. */
export function originalUri(event) {
  if (event.version === "2.0") {
    const stage = `/${event.requestContext.stage}`;
    const path = event.rawPath.startsWith(`${stage}/`)
      ? event.rawPath.slice(stage.length)
      : event.rawPath;
    return event.rawQueryString ? `${path}?${event.rawQueryString}` : path;
  }
  const parameters = event.multiValueQueryStringParameters ?? event.queryStringParameters ?? {};
  const pairs = Object.entries(parameters).flatMap(([name, values]) =>
    [values].flat().map((value) => `${encode(name)}=${encode(value)}`),
  );
  return pairs.length ? `${event.path}?${pairs.join("&")}` : event.path;
}

/** Return the headers of the question: what the client sent, less what only a gateway may say. */
export function questionHeaders(event) {
  const context = event.requestContext;
  const http = context.http ?? {};
  const sent = Object.entries(event.headers ?? {});
  const names = new Set(sent.map(([name]) => name.toLowerCase()));
  const headers = {};
  for (const [raw, value] of sent) {
    const name = canonical(raw);
    if (OWN.has(name) || OWN_PREFIXES.some((prefix) => name.startsWith(prefix))) continue;
    if (raw.includes("_") && names.has(name)) continue;
    headers[name] = value;
  }
  if (event.cookies?.length) headers.cookie = event.cookies.join("; ");
  headers["x-original-method"] = http.method ?? event.httpMethod;
  headers["x-original-uri"] = originalUri(event);
  headers["x-original-host"] = context.domainName ?? "";
  headers["x-forwarded-for"] = http.sourceIp ?? context.identity.sourceIp;
  headers["x-fairvisor-prefer"] = "delay-header";
  return headers;
}

/** Return headers that can be sent, their values as UTF-8; undefined if there are none such. */
function sendable(headers) {
  const ready = new Headers();
  try {
    for (const [name, value] of Object.entries(headers)) {
      ready.set(name, Buffer.from(String(value), "utf8").toString("latin1"));
    }
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
  return ready;
}

async function ask(headers) {
  const ready = sendable(headers);
  if (!ready) return { status: 400, headers: new Headers() };
  const answer = await fetch(new URL("/v1/decision", process.env.FAIRVISOR_URL), {
    headers: ready,
    redirect: "manual",
    signal: AbortSignal.timeout(Number(process.env.FAIRVISOR_TIMEOUT_MS ?? 500)),
  });
  await answer.arrayBuffer();
  const { status } = answer;
  const refused = answer.headers.has("x-fairvisor-reason") || REFUSALS.has(status);
  if (status !== 200 && !refused && !UNREADABLE.has(status)) {
    throw new Error(`it answered ${status}`);
  }
  return answer;
}

function outcome(event, allowed, context) {
  const form = process.env.FAIRVISOR_RESPONSE ?? (event.version === "2.0" ? "simple" : "iam");
  if (form === "simple") return { isAuthorized: allowed, context };
  return {
    principalId: "fairvisor",
    policyDocument: {
      Version: "2012-10-17",
      Statement: [
        {
          Action: "execute-api:Invoke",
          Effect: allowed ? "Allow" : "Deny",
          Resource: event.methodArn ?? event.routeArn,
        },
      ],
    },
    context,
  };
}

const limits = (headers) =>
  Object.fromEntries(
    ["limit", "remaining", "reset"]
      .map((name) => [`ratelimit_${name}`, headers.get(`ratelimit-${name}`)])
      .filter(([, value]) => value !== null),
  );

export async function handler(event) {
  if (event.type !== "REQUEST") {
    throw new Error("the authorizer's type must be REQUEST: a token alone says nothing to decide");
  }
  const headers = questionHeaders(event);
  let answer;
  try {
    answer = await ask(headers);
  } catch (error) {
    console.error(`Fairvisor did not decide: ${error.message}`);
    const way = process.env.FAIRVISOR_ON_FAILURE ?? "closed";
    const read = READS.has(headers["x-original-method"]);
    const passes = way === "open" || (way === "reads-open" && read);
    const reason = { fairvisor_reason: "service_unavailable", retry_after: "1" };
    return outcome(event, passes, passes ? {} : reason);
  }
  const found = limits(answer.headers);
  if (answer.status !== 200) {
    const reason = answer.headers.get("x-fairvisor-reason") ?? "rate_limited";
    const retry = answer.headers.get("retry-after") ?? "1";
    return outcome(event, false, { fairvisor_reason: reason, retry_after: retry, ...found });
  }
  const longest = Number(process.env.FAIRVISOR_LONGEST_DELAY_MS ?? 5000);
  const delay = Math.min(Number(answer.headers.get("x-fairvisor-delay-ms") ?? 0), longest);
  if (delay > 0) await new Promise((done) => setTimeout(done, delay));
  return outcome(event, true, found);
}
