--- The daemon's answer: what it means, and which of its headers are the client's.

local sub = string.sub
local tonumber = tonumber

local MAX_DELAY_MS = 30000

local NAMES = {
  ["content-type"] = "Content-Type",
  ["retry-after"] = "Retry-After",
  ["www-authenticate"] = "WWW-Authenticate",
  ["ratelimit"] = "RateLimit",
  ["ratelimit-limit"] = "RateLimit-Limit",
  ["ratelimit-policy"] = "RateLimit-Policy",
  ["ratelimit-remaining"] = "RateLimit-Remaining",
  ["ratelimit-reset"] = "RateLimit-Reset",
  ["x-fairvisor-loop-count"] = "X-Fairvisor-Loop-Count",
  ["x-fairvisor-reason"] = "X-Fairvisor-Reason",
  ["x-fairvisor-warning"] = "X-Fairvisor-Warning",
}

local DEBUG = "x-fairvisor-debug-"

-- The daemon could not read what the client sent: the client's fault, and no way around a limit.
local UNREADABLE = { [400] = true, [413] = true, [414] = true, [417] = true, [431] = true }

-- Refusals even without a reason.
local REFUSALS = { [401] = true, [429] = true }

local _M = {}

--- Return what an answer means: "allow", "reject", "unreadable" or "failure".
function _M.meaning(answer)
  if answer.status == 200 then
    return "allow"
  end
  if answer.headers["x-fairvisor-reason"] or REFUSALS[answer.status] then
    return "reject"
  end
  return UNREADABLE[answer.status] and "unreadable" or "failure"
end

--- Return the headers that go on to the client, by name.
function _M.client_headers(answer)
  local headers = {}
  for name, value in pairs(answer.headers) do
    if NAMES[name] then
      headers[NAMES[name]] = value
    elseif sub(name, 1, #DEBUG) == DEBUG then
      headers[name] = value
    end
  end
  return headers
end

--- Return how many seconds the request has to wait, 0 to 30.
function _M.delay_seconds(answer)
  local ms = tonumber(answer.headers["x-fairvisor-delay-ms"]) or 0
  return math.max(0, math.min(ms, MAX_DELAY_MS)) / 1000
end

return _M
