--- The client's request as a question to the daemon.
--
-- The daemon believes what a gateway says about a request, so nothing that a client sent may pass
-- for it. Kong accepts "_" in header names and the daemon reads it as "-": names are compared in
-- that form.

local ceil = math.ceil
local find = string.find
local gsub = string.gsub
local lower = string.lower
local sub = string.sub
local tonumber = tonumber

local MAX_HEADERS = 1000
local BYTES_A_TOKEN = 4

local function set(names)
  local members = {}
  for _, name in ipairs(names) do
    members[name] = true
  end
  return members
end

-- Of this connection only, or about bytes that are not sent on.
local OWN = set {
  "accept-encoding", "connection", "content-length", "expect", "host", "http2-settings",
  "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
  "upgrade", "via",
}

-- What a proxy in front of Kong may know of the client's address.
local EDGE = set { "x-country-code", "x-asn", "x-asn-type", "x-tor-exit" }

local ALWAYS = { "authorization", "user-agent", "content-type" }

local function canonical(name)
  return (gsub(lower(name), "_", "-"))
end

local function reserved(name)
  return OWN[name] or name == "x-token-estimate" or name == "forwarded"
    or sub(name, 1, 12) == "x-forwarded-"
    or sub(name, 1, 11) == "x-original-"
    or sub(name, 1, 12) == "x-fairvisor-"
end

-- Whoever connects to Kong may be a trusted proxy that knows where the client is.
local function edge_trusted()
  return kong.ip.is_trusted(kong.client.get_ip())
end

local function first(value)
  if type(value) == "table" then
    return value[1]
  end
  return value
end

local function wanted(conf)
  if type(conf.headers) ~= "table" or #conf.headers == 0 then
    return nil
  end
  local names = set(ALWAYS)
  for _, name in ipairs(conf.headers) do
    names[canonical(name)] = true
  end
  return names
end

-- Returns canonical names and their first values. "x-a" goes before "x_a", so that what is sent
-- does not depend on the order of a table.
local function client_headers(conf)
  local found, err = kong.request.get_headers(MAX_HEADERS)
  if err == "truncated" then
    return nil
  end
  local only = wanted(conf)
  local headers, trusted = {}, nil
  for raw, value in pairs(found) do
    local name = canonical(raw)
    local passes = not reserved(name) and (only == nil or only[name])
    if passes and EDGE[name] then
      if trusted == nil then
        trusted = edge_trusted()
      end
      passes = trusted
    end
    if passes and (headers[name] == nil or not find(raw, "_", 1, true)) then
      headers[name] = first(value)
    end
  end
  return headers
end

local _M = {}

--- Return the header lines that say what the client asks for.
-- @tparam table conf
-- @treturn table|nil lines; nil if the client sent more headers than can be looked at
function _M.lines(conf)
  local headers = client_headers(conf)
  if not headers then
    return nil
  end
  local lines = {
    "X-Original-Method: " .. kong.request.get_method(),
    "X-Original-URI: " .. kong.request.get_path_with_query(),
    "X-Original-Host: " .. (kong.request.get_host() or ""),
    "X-Forwarded-For: " .. kong.client.get_forwarded_ip(),
    "X-Fairvisor-Prefer: delay-header",
  }
  for name, value in pairs(headers) do
    if type(value) == "string" then
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  return lines
end

--- Return the body to send, or how many tokens it may have if it cannot be sent.
-- @tparam table conf
-- @treturn string|nil body
-- @treturn number|nil tokens, four bytes each
function _M.body(conf)
  local limit = conf.max_body_bytes
  local length = tonumber(kong.request.get_header("content-length"))
  if length and length > limit then
    return nil, ceil(length / BYTES_A_TOKEN)
  end
  -- Raises for some HTTP/2 requests; nil for a body in a file, which older versions do not read.
  local ok, body, err = pcall(kong.request.get_raw_body, limit)
  if not ok or body == nil then
    kong.log.warn("the body is not sent to Fairvisor: ", ok and err or body)
    -- Not knowing its length must not make it free.
    return nil, ceil((length or limit) / BYTES_A_TOKEN)
  end
  if #body > limit then
    return nil, ceil(#body / BYTES_A_TOKEN)
  end
  return body ~= "" and body or nil
end

return _M
