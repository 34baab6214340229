local doubles = require "doubles"
local handler = require "kong.plugins.fairvisor.handler"

local unpack = table.unpack or unpack -- luacheck: ignore 113 143
local answer, conf = doubles.answer, doubles.conf

local function access(request, script, changes)
  local state = doubles.install(request, script)
  handler:access(conf(changes))
  return state
end

local function sent_header(state, name)
  for line in state.sent[1]:gmatch("([^\r\n]+)\r\n") do
    local key, value = line:match("^([^:]+): (.*)$")
    if key and key:lower() == name then
      return value
    end
  end
end

local ALLOW = answer(200, { ["RateLimit-Remaining"] = "3" })

describe("what the daemon is told", function()
  it("names the request as the client made it", function()
    local state = access(
      { method = "DELETE", uri = "/a%20b?x=1&y=%2F", host = "shop.test", ip = "198.51.100.4" },
      { { ALLOW } }
    )
    assert.is_truthy(state.sent[1]:find("^GET /v1/decision HTTP/1.1\r\nHost: fairvisor\r\n"))
    assert.equal("DELETE", sent_header(state, "x-original-method"))
    assert.equal("/a%20b?x=1&y=%2F", sent_header(state, "x-original-uri"))
    assert.equal("shop.test", sent_header(state, "x-original-host"))
    assert.equal("198.51.100.4", sent_header(state, "x-forwarded-for"))
    assert.equal("delay-header", sent_header(state, "x-fairvisor-prefer"))
    assert.is_nil(sent_header(state, "content-length"))
  end)

  it("passes the client's headers on, the first of each", function()
    local state = access({ headers = {
      Authorization = "Bearer t", ["X-Api-Key"] = { "one", "two" }, Cookie = "a=b",
    } }, { { ALLOW } })
    assert.equal("Bearer t", sent_header(state, "authorization"))
    assert.equal("one", sent_header(state, "x-api-key"))
    assert.equal("a=b", sent_header(state, "cookie"))
  end)

  it("believes nothing that only a gateway may say", function()
    local state = access({ headers = {
      ["X-Forwarded-For"] = "6.6.6.6", ["X_Forwarded_For"] = "6.6.6.6",
      ["x_original_uri"] = "/free", ["X-Original-Method"] = "GET",
      ["X-Token-Estimate"] = "0", ["x_token_estimate"] = "0",
      ["X-Country-Code"] = "CH", ["X_ASN"] = "1", ["X-Tor-Exit"] = "0",
      ["X-Fairvisor-Prefer"] = "", Forwarded = "for=6.6.6.6", Connection = "close",
      ["Content-Length"] = "5", ["Transfer-Encoding"] = "chunked", Expect = "100-continue",
    } }, { { ALLOW } })
    local bytes = state.sent[1]:lower()
    for _, value in ipairs { "6.6.6.6", "/free", "estimate", "country", "asn", "tor", "close",
                             "chunked", "expect", "content%-length" } do
      assert.is_nil(bytes:find(value), value)
    end
    local _, lines = bytes:gsub("x.forwarded.for", "")
    assert.equal(1, lines)
  end)

  it("passes on what a trusted proxy knows of the address", function()
    local headers = { ["X-Country-Code"] = "CH", ["X-Asn"] = "64500" }
    local state = access(
      { headers = headers, peer = "10.1.1.1", trusted = "10.1.1.1" }, { { ALLOW } })
    assert.equal("CH", sent_header(state, "x-country-code"))
    assert.equal("64500", sent_header(state, "x-asn"))
  end)

  it("prefers a dash to an underscore", function()
    local state = access(
      { headers = { x_api_key = "forged", ["x-api-key"] = "real" } }, { { ALLOW } })
    assert.equal("real", sent_header(state, "x-api-key"))
    assert.is_nil(state.sent[1]:find("forged"))
  end)

  it("sends only the headers that are configured", function()
    local state = access({ headers = {
      Authorization = "Bearer t", ["X-Team"] = "search", Cookie = "a=b", ["User-Agent"] = "curl",
    } }, { { ALLOW } }, { headers = { "X-Team" } })
    assert.equal("search", sent_header(state, "x-team"))
    assert.equal("Bearer t", sent_header(state, "authorization"))
    assert.equal("curl", sent_header(state, "user-agent"))
    assert.is_nil(sent_header(state, "cookie"))
  end)

  it("reaches a daemon by host and port too", function()
    local state = access({}, { { ALLOW } }, { socket = doubles.null, host = "127.0.0.1" })
    assert.same({ "127.0.0.1:8080" }, state.connected)
    state = access({}, { { ALLOW } })
    assert.same({ "unix:/run/fairvisor.sock" }, state.connected)
    assert.same({ 100, 100, 300 }, state.timeouts)
    assert.same({ 60000, 4 }, state.kept)
  end)
end)

describe("the body", function()
  local BODY = '{"model":"gpt-4o"}'
  local SEND = { send_body = true }

  it("stays here unless configured", function()
    local state = access({ body = BODY }, { { ALLOW } })
    assert.is_nil(state.body_limit)
  end)

  it("is sent", function()
    local state = access({ method = "PUT", body = BODY }, { { ALLOW } }, SEND)
    assert.is_truthy(state.sent[1]:find("^POST /v1/decision "))
    assert.equal("PUT", sent_header(state, "x-original-method"))
    assert.equal("18", sent_header(state, "content-length"))
    assert.equal(BODY, state.sent[1]:sub(-#BODY))
    assert.equal(1000, state.body_limit)
  end)

  it("is a GET without one", function()
    local state = access({ method = "POST" }, { { ALLOW } }, SEND)
    assert.is_truthy(state.sent[1]:find("^GET /v1/decision "))
  end)

  it("counts by its length when it is too long", function()
    local state = access(
      { headers = { ["Content-Length"] = "4002" }, body = BODY }, { { ALLOW } }, SEND)
    assert.is_nil(state.body_limit)
    assert.equal("1001", sent_header(state, "x-token-estimate"))
    state = access({ body = ("x"):rep(1001) }, { { ALLOW } }, SEND)
    assert.equal("251", sent_header(state, "x-token-estimate"))
    assert.is_truthy(state.sent[1]:find("^GET "))
  end)

  it("counts by its length when it cannot be read", function()
    local headers = { ["Content-Length"] = "400" }
    local state = access({ headers = headers, in_file = "in a file" }, { { ALLOW } }, SEND)
    assert.equal("100", sent_header(state, "x-token-estimate"))
    assert.is_truthy(state.logs[1]:find("in a file", 1, true))
    state = access({ raise = "http2" }, { { ALLOW } }, SEND)
    assert.equal("250", sent_header(state, "x-token-estimate")) -- as long as one may be
    assert.is_truthy(state.logs[1]:find("http2", 1, true))
  end)
end)

describe("an allow", function()
  it("lets the request pass and waits if it has to", function()
    local state = access({}, { { answer(200, { ["X-Fairvisor-Delay-Ms"] = "250" }) } })
    assert.is_nil(state.exit)
    assert.equal(0.25, state.slept)
    state = access({}, { { answer(200, { ["X-Fairvisor-Delay-Ms"] = "90000" }) } })
    assert.equal(30, state.slept)
    state = access({}, { { ALLOW } })
    assert.is_nil(state.slept)
  end)

  it("gives the client the limits and nothing that is not theirs", function()
    local state = access({}, { { answer(200, {
      ["RateLimit-Limit"] = "5", RateLimit = '"api";r=3;t=1',
      ["X-Fairvisor-Warning"] = "budget_warn",
      ["X-Fairvisor-Reservation"] = "id", ["X-Fairvisor-Delay-Ms"] = "1", Server = "x",
      ["X-Fairvisor-Debug-Rule"] = "per-key",
    }) } })
    handler:header_filter(conf())
    assert.same({
      ["RateLimit-Limit"] = "5", RateLimit = '"api";r=3;t=1',
      ["X-Fairvisor-Warning"] = "budget_warn",
      ["x-fairvisor-debug-rule"] = "per-key",
    }, state.headers)
  end)
end)

describe("a reject", function()
  it("is the client's, with status, headers and body", function()
    local state = access({}, { { answer(429, {
      ["Retry-After"] = "7", ["X-Fairvisor-Reason"] = "rate_limit_exceeded",
      ["Content-Type"] = "application/json", ["RateLimit-Policy"] = '"api";q=2;w=200',
      Connection = "keep-alive",
    }, '{"error":"rate_limit_exceeded"}') } })
    assert.same({
      status = 429,
      body = '{"error":"rate_limit_exceeded"}',
      headers = {
        ["Retry-After"] = "7", ["X-Fairvisor-Reason"] = "rate_limit_exceeded",
        ["Content-Type"] = "application/json", ["RateLimit-Policy"] = '"api";q=2;w=200',
      },
    }, state.exit)
  end)

  it("needs no reason", function()
    local state = access({}, { { answer(429) } }, { on_failure = "open" })
    assert.equal(429, state.exit.status)
  end)

  it("passes whichever status the daemon chose", function()
    local state = access({}, { { answer(401, {
      ["X-Fairvisor-Reason"] = "invalid_token", ["WWW-Authenticate"] = "Bearer",
    }) } }, { on_failure = "open" })
    assert.equal(401, state.exit.status)
    assert.equal("Bearer", state.exit.headers["WWW-Authenticate"])
    state = access({}, { { answer(503, { ["X-Fairvisor-Reason"] = "no_bundle_loaded" }) } },
      { on_failure = "open" })
    assert.equal(503, state.exit.status)
  end)
end)

describe("a daemon that does not decide", function()
  local faults = {
    ["is away"] = {},
    ["is slow"] = { { { "timeout" } } },
    ["closes"] = { { { "closed" } } },
    ["answers with an error"] = { { answer(500) } },
    ["is another service"] = { { answer(404) } },
    ["is no HTTP"] = { { "SSH-2.0-x\r\n\r\n" } },
    ["answers without a length"] = { { "HTTP/1.1 200 OK\r\n\r\n" } },
    ["answers without end"] = { { "HTTP/1.1 200 OK\r\n" .. ("a: b\r\n"):rep(200) .. "\r\n" } },
  }
  for name, script in pairs(faults) do
    it(name .. ": closed refuses, open passes, both are logged", function()
      local function copy()
        local out = {}
        for i, answers in ipairs(script) do
          out[i] = { unpack(answers) }
        end
        return out
      end
      local state = access({}, copy())
      assert.equal(503, state.exit.status)
      assert.equal("service_unavailable", state.exit.headers["X-Fairvisor-Reason"])
      assert.equal("1", state.exit.headers["Retry-After"])
      assert.is_truthy(state.logs[1]:find("the request is refused", 1, true))
      state = access({}, copy(), { on_failure = "open" })
      assert.is_nil(state.exit)
      assert.is_truthy(state.logs[1]:find("the request passes", 1, true))
    end)
  end

  it("lets reads pass and writes not, if that is configured", function()
    for method, passes in pairs { GET = true, HEAD = true, POST = false, DELETE = false } do
      local state = access({ method = method }, {}, { on_failure = "reads-open" })
      assert.equal(passes, state.exit == nil, method)
    end
  end)

  it("cannot be had by sending what it cannot read", function()
    for _, status in ipairs { 400, 413, 414, 417, 431 } do
      local state = access({}, { { answer(status) } }, { on_failure = "open" })
      assert.equal(status, state.exit.status)
    end
    local state = access({ truncated = "truncated" }, {}, { on_failure = "open" })
    assert.equal(431, state.exit.status)
    assert.same({}, state.sent)
  end)
end)

describe("kept-alive connections", function()
  it("are replaced when they turn out to be closed", function()
    local state = doubles.install({}, { { ALLOW, { "closed" } }, { ALLOW } })
    handler:access(conf())
    handler:access(conf())
    assert.is_nil(state.exit)
    assert.equal(3, #state.sent)
    assert.equal(1, state.closed)
  end)

  it("are not asked again after a timeout", function()
    local state = doubles.install({}, { { ALLOW, { "timeout" } }, { ALLOW } })
    handler:access(conf())
    handler:access(conf())
    assert.equal(503, state.exit.status)
    assert.equal(2, #state.sent)
  end)

  it("end when the daemon says so", function()
    local state = access({}, { { answer(200, { Connection = "close" }) } })
    assert.is_nil(state.kept)
    assert.equal(1, state.closed)
  end)
end)
