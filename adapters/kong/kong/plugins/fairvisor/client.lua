--- HTTP/1.1 to the daemon, over kept-alive cosockets.
--
-- The daemon answers with Content-Length always; whatever else comes is a fault of the connection.

local concat = table.concat
local lower = string.lower
local match = string.match
local tonumber = tonumber

local MAX_HEADER_LINES = 128
local MAX_ANSWER_BYTES = 65536

local function connect(conf)
  local sock = ngx.socket.tcp()
  sock:settimeouts(conf.connect_timeout, conf.send_timeout, conf.read_timeout)
  local ok, err
  if conf.socket and conf.socket ~= ngx.null then
    ok, err = sock:connect("unix:" .. conf.socket)
  else
    ok, err = sock:connect(conf.host, conf.port)
  end
  if not ok then
    return nil, "connect: " .. err
  end
  return sock
end

local function read_headers(sock)
  local headers = {}
  for _ = 1, MAX_HEADER_LINES do
    local line, err = sock:receive("*l")
    if not line then
      return nil, "read: " .. err
    end
    if line == "" then
      return headers
    end
    local name, value = match(line, "^([^:]+):%s*(.-)%s*$")
    if not name then
      return nil, "not an HTTP header"
    end
    headers[lower(name)] = value
  end
  return nil, "more than " .. MAX_HEADER_LINES .. " header lines"
end

-- Returns the answer; else nil, what went wrong, and whether nothing at all came back.
local function exchange(sock, bytes)
  local sent, err = sock:send(bytes)
  if not sent then
    return nil, "send: " .. err, err ~= "timeout"
  end
  local line, partial
  line, err, partial = sock:receive("*l")
  if not line then
    return nil, "read: " .. err, err ~= "timeout" and (partial == nil or partial == "")
  end
  local status = tonumber(match(line, "^HTTP/1%.1 (%d%d%d)"))
  if not status then
    return nil, "not an HTTP/1.1 answer"
  end
  local headers
  headers, err = read_headers(sock)
  if not headers then
    return nil, err
  end
  local size = status == 204 and 0 or tonumber(headers["content-length"])
  if not size or size > MAX_ANSWER_BYTES then
    return nil, "an answer without a usable Content-Length"
  end
  local body = ""
  if size > 0 then
    body, err = sock:receive(size)
    if not body then
      return nil, "read: " .. err
    end
  end
  return { status = status, headers = headers, body = body }
end

local function give_back(sock, conf, answer)
  if answer.headers["connection"] == "close" then
    sock:close()
    return
  end
  sock:setkeepalive(conf.keepalive_timeout, conf.keepalive_pool_size)
end

local _M = {}

--- Ask the daemon once.
-- A kept-alive connection that turns out to be closed is replaced by a new one; there are no other
-- retries, and none after a timeout.
-- @tparam table conf the plugin's configuration
-- @tparam string method
-- @tparam string path
-- @tparam table lines header lines without line ends; Host and Content-Length are added
-- @tparam string|nil body
-- @treturn table|nil `status`, `headers` (names in lower case), `body`
-- @treturn string|nil what went wrong
function _M.request(conf, method, path, lines, body)
  local head = { method .. " " .. path .. " HTTP/1.1", "Host: fairvisor" }
  for i = 1, #lines do
    head[#head + 1] = lines[i]
  end
  if body then
    head[#head + 1] = "Content-Length: " .. #body
  end
  local bytes = concat(head, "\r\n") .. "\r\n\r\n" .. (body or "")

  -- Every connection of the pool may be stale, but no more of them than it holds.
  for _ = 0, conf.keepalive_pool_size do
    local sock, err = connect(conf)
    if not sock then
      return nil, err
    end
    local reused = (sock:getreusedtimes() or 0) > 0
    local answer, fault, silent = exchange(sock, bytes)
    if answer then
      give_back(sock, conf, answer)
      return answer
    end
    sock:close()
    if not (reused and silent) then
      return nil, fault
    end
  end
  return nil, "every kept-alive connection was closed"
end

return _M
