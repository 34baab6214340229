--- Tell the daemon what a reservation has really used.
--
-- The log phase has no sockets, so a timer does it.

local client = require "kong.plugins.fairvisor.client"
local cjson = require "cjson.safe"

local MAX_TRIES = 3
local LINES = { "Content-Type: application/json" }

local send

local function again(conf, message, try)
  local ok, err = ngx.timer.at(try, send, conf, message, try + 1)
  if not ok then
    kong.log.err("a reservation stays charged, no timer: ", err)
  end
end

send = function(premature, conf, message, try)
  local answer, err = client.request(conf, "POST", "/v1/settle", LINES, message)
  if answer and answer.status == 204 then
    return
  end
  local transient = not answer or answer.status == 503
  if transient and try < MAX_TRIES and not premature then
    again(conf, message, try)
    return
  end
  kong.log.err("a reservation stays charged: ", err or answer.body)
end

local _M = {}

--- Return the settlement of a reservation by JSON text of a provider's answer.
function _M.by_response(reservation, text)
  -- The text has been decoded once, so it cannot break out of its place.
  return '{"reservation":' .. cjson.encode(reservation) .. ',"response_body":' .. text .. "}"
end

--- Return the settlement of a reservation that was not used.
function _M.unused(reservation)
  return '{"reservation":' .. cjson.encode(reservation)
    .. ',"usage":{"prompt_tokens":0,"completion_tokens":0}}'
end

--- Send a settlement once this phase is over; up to three tries, 1 and 2 seconds apart.
function _M.later(conf, message)
  local ok, err = ngx.timer.at(0, send, conf, message, 1)
  if not ok then
    kong.log.err("a reservation stays charged, no timer: ", err)
  end
end

return _M
