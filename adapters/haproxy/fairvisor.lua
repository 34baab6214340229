--- Asks Fairvisor about every request: the action `lua.fairvisor` for `http-request`.
--
-- The daemon believes what a gateway says about a request, so nothing that a client sent may pass
-- for it. HAProxy accepts "_" in header names and the daemon reads it as "-": names are compared in
-- that form.

local READS = { GET = true, HEAD = true, OPTIONS = true }
local LONGEST_DELAY = 30000
local MAX_FIELDS = 100
local MAX_BODY = 65536

-- Of this connection only, about a body that is not sent on, or a gateway's to say.
local RESERVED = {
  ["accept-encoding"] = true, ["connection"] = true, ["content-length"] = true,
  ["expect"] = true, ["forwarded"] = true, ["host"] = true, ["http2-settings"] = true,
  ["keep-alive"] = true, ["proxy-authorization"] = true, ["proxy-connection"] = true,
  ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true, ["upgrade"] = true,
  ["via"] = true, ["x-asn"] = true, ["x-asn-type"] = true, ["x-country-code"] = true,
  ["x-tor-exit"] = true, ["x-token-estimate"] = true,
}

-- Told to the client of an allowed request: field and variable.
local TOLD = {
  ["ratelimit-limit"] = "limit", ["ratelimit-remaining"] = "remaining",
  ["ratelimit-reset"] = "reset", ["ratelimit"] = "ratelimit", ["ratelimit-policy"] = "policy",
  ["x-fairvisor-warning"] = "warning",
}

-- Of the answer's connection, not of the answer.
local HOP = {
  ["connection"] = true, ["content-length"] = true, ["keep-alive"] = true,
  ["transfer-encoding"] = true,
}

local function reserved(name)
  return RESERVED[name] or name:sub(1, 12) == "x-forwarded-" or name:sub(1, 11) == "x-original-"
    or name:sub(1, 12) == "x-fairvisor-"
end

local function question(txn)
  local asked = {}
  local host = ""
  for raw, values in pairs(txn.http:req_get_headers()) do
    local name = raw:lower():gsub("_", "-")
    if raw == "host" then
      host = values[0]
    end
    -- "x-a" goes before "x_a", so that what is asked does not depend on the order of a table.
    if not reserved(name) and (asked[name] == nil or raw == name) then
      asked[name] = values[0]
    end
  end
  local lines = {
    "GET /v1/decision HTTP/1.1",
    "Host: fairvisor",
    "Connection: close",
    "X-Original-Method: " .. txn.f:method(),
    "X-Original-URI: " .. txn.f:url(),
    "X-Original-Host: " .. host,
    "X-Forwarded-For: " .. txn.sf:src(),
    "X-Fairvisor-Prefer: delay-header",
  }
  for name, value in pairs(asked) do
    lines[#lines + 1] = name .. ": " .. value
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function refuse(txn, status, headers, body)
  local reply = txn:reply { status = status, body = body }
  for name, value in pairs(headers) do
    if not HOP[name] then
      reply:add_header(name, value)
    end
  end
  txn:done(reply)
end

local function undecided(txn, on_failure, why)
  txn:log(core.err, "fairvisor: no decision: " .. why)
  if on_failure == "open" or (on_failure == "reads-open" and READS[txn.f:method()]) then
    return
  end
  refuse(txn, 503, {
    ["content-type"] = "application/json",
    ["retry-after"] = "1",
    ["x-fairvisor-reason"] = "service_unavailable",
  }, '{"error":"service_unavailable"}')
end

-- One connection a question: HAProxy gives Lua no connections to keep. Returns the status, the
-- fields by lower-case name and the body; nil and a reason if that is not what came.
local function exchange(head, destination, timeout)
  local link = core.tcp()
  link:settimeout(tonumber(timeout) / 1000)
  local ok, err = link:connect(destination)
  if not ok then
    return nil, err or "cannot connect"
  end
  link:send(head)
  local line = link:receive("*l")
  local status = line and tonumber(line:match("^HTTP/1%.%d (%d%d%d)"))
  if not status then
    link:close()
    return nil, line and "no HTTP" or "no answer in time"
  end
  local fields = {}
  for _ = 1, MAX_FIELDS do
    line = link:receive("*l")
    local name, value = (line or ""):match("^([^:]+):%s*(.-)%s*$")
    if not name then
      break
    end
    fields[name:lower()] = value
  end
  local length = tonumber(fields["content-length"])
  local body = length and length > 0 and length <= MAX_BODY and link:receive(length) or ""
  link:close()
  if line == nil or not length or #body ~= length then
    return nil, "half an answer"
  end
  return status, fields, body
end

local function decision(txn, destination, timeout)
  return exchange(question(txn), destination, timeout)
end

local function ask(txn, destination, timeout, on_failure)
  -- HAProxy goes on with a request whose action raised an error, which is not for it to choose.
  local ok, status, fields, body = pcall(decision, txn, destination, timeout)
  if not ok then
    undecided(txn, on_failure, tostring(status))
  elseif not status then
    undecided(txn, on_failure, fields)
  elseif status >= 200 and status < 300 then
    for name, variable in pairs(TOLD) do
      if fields[name] then
        txn:set_var("txn.fairvisor_" .. variable, fields[name])
      end
    end
    local delay = tonumber(fields["x-fairvisor-delay-ms"])
    if delay and delay > 0 then
      core.msleep(math.min(math.ceil(delay), LONGEST_DELAY))
    end
  elseif status < 400 or status == 404
    or (status >= 500 and not fields["x-fairvisor-reason"]) then
    undecided(txn, on_failure, "status " .. status)
  else
    refuse(txn, status, fields, body)
  end
end

core.register_action("fairvisor", { "http-req" }, ask, 3)
