--- Fairvisor for Kong: every request is decided before it is forwarded.

local answer = require "kong.plugins.fairvisor.answer"
local client = require "kong.plugins.fairvisor.client"
local question = require "kong.plugins.fairvisor.question"
local settlement = require "kong.plugins.fairvisor.settlement"
local usage = require "kong.plugins.fairvisor.usage"

local CLIENT_CLOSED_REQUEST = 499
local READS = { GET = true, HEAD = true, OPTIONS = true }

local Fairvisor = {
  -- After authentication and ACLs, before plugins that rewrite the request.
  PRIORITY = 908,
  VERSION = "0.1.0",
}

local function refuse(status, reason)
  local headers = { ["Content-Type"] = "application/json" }
  if status == 503 then
    headers["Retry-After"] = "1"
    headers["X-Fairvisor-Reason"] = reason
  end
  return kong.response.exit(status, '{"error":"' .. reason .. '"}', headers)
end

local function passes_unasked(conf)
  return conf.on_failure == "open"
    or conf.on_failure == "reads-open" and READS[kong.request.get_method()] ~= nil
end

local function fail(conf, why)
  if passes_unasked(conf) then
    kong.log.err("Fairvisor did not decide, the request passes: ", why)
    return
  end
  kong.log.err("Fairvisor did not decide, the request is refused: ", why)
  return refuse(503, "service_unavailable")
end

local function ask(conf)
  local lines = question.lines(conf)
  if not lines then
    return { status = 431, headers = {}, body = "" }
  end
  if not conf.send_body then
    return client.request(conf, "GET", "/v1/decision", lines)
  end
  local body, tokens = question.body(conf)
  if tokens then
    lines[#lines + 1] = ("X-Token-Estimate: %d"):format(tokens)
  end
  return client.request(conf, body and "POST" or "GET", "/v1/decision", lines, body)
end

local function allow(conf, decision)
  local ctx = kong.ctx.plugin
  ctx.headers = answer.client_headers(decision)
  local reservation = decision.headers["x-fairvisor-reservation"]
  if reservation and conf.settle then
    ctx.reservation = reservation
    kong.service.request.clear_header("Accept-Encoding")  -- the answer has to be read
  end
  local seconds = answer.delay_seconds(decision)
  if seconds > 0 then
    ngx.sleep(seconds)
  end
end

function Fairvisor:access(conf)
  local decision, err = ask(conf)
  if not decision then
    return fail(conf, err)
  end
  local meaning = answer.meaning(decision)
  if meaning == "allow" then
    return allow(conf, decision)
  end
  if meaning == "reject" then
    return kong.response.exit(decision.status, decision.body, answer.client_headers(decision))
  end
  if meaning == "unreadable" then
    return refuse(decision.status, "bad_request")
  end
  return fail(conf, "it answered " .. decision.status)
end

function Fairvisor:header_filter(conf)
  local ctx = kong.ctx.plugin
  for name, value in pairs(ctx.headers or {}) do
    kong.response.set_header(name, value)
  end
  if ctx.reservation then
    ctx.collector, ctx.unread = usage.collector(
      kong.response.get_header("Content-Type"),
      kong.response.get_header("Content-Encoding"),
      conf.max_response_bytes
    )
  end
end

function Fairvisor:body_filter()
  local collector = kong.ctx.plugin.collector
  if collector and ngx.arg[1] then
    collector.feed(ngx.arg[1])
  end
end

-- Nothing was used if the provider refused, failed, or was never asked. A client that left early
-- proves nothing of the kind.
local function unused()
  if kong.response.get_status() == CLIENT_CLOSED_REQUEST then
    return false
  end
  if kong.response.get_source() ~= "service" then
    return true
  end
  return (kong.service.response.get_status() or 0) >= 400
end

function Fairvisor:log(conf)
  local ctx = kong.ctx.plugin
  if not ctx.reservation then
    return
  end
  local text, why = nil, ctx.unread
  if ctx.collector then
    text, why = ctx.collector.finish()
  end
  if text then
    settlement.later(conf, settlement.by_response(ctx.reservation, text))
  elseif unused() then
    settlement.later(conf, settlement.unused(ctx.reservation))
  else
    kong.log.warn("a reservation stays charged: ", why or "no response was seen")
  end
end

return Fairvisor
