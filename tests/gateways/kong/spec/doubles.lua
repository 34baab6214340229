--- `kong` and `ngx` as far as the plugin uses them, with a daemon that answers from a script.

local unpack = table.unpack or unpack -- luacheck: ignore 113 143

local NULL = {}

local doubles = { null = NULL }

local function lower_keys(headers)
  local out = {}
  for name, value in pairs(headers or {}) do
    out[name:lower()] = value
  end
  return out
end

--- A socket module. `script` holds one list per connection: the bytes of each answer, or an error
-- as { "closed" }. `state.sent` gathers what was sent, `state.pool` the kept sockets.
local function tcp(script, state)
  return function()
    local sock = { reused = 0 }
    local buffer = ""
    local answers = {}

    function sock:settimeouts(connect, send, read) -- luacheck: no self
      state.timeouts = { connect, send, read }
    end

    function sock:connect(host, port) -- luacheck: no self
      state.connected[#state.connected + 1] = port and host .. ":" .. port or host
      if #state.pool > 0 then
        answers = table.remove(state.pool)
        self.reused = 1
        return true
      end
      if #script == 0 then
        return nil, "connection refused"
      end
      answers = table.remove(script, 1)
      return true
    end

    function sock:getreusedtimes()
      return self.reused
    end

    function sock:send(bytes) -- luacheck: no self
      state.sent[#state.sent + 1] = bytes
      local nextup = table.remove(answers, 1)
      if type(nextup) == "table" then
        state.fault = nextup[1]
      else
        state.fault = nil
        buffer = nextup or ""
      end
      return #bytes
    end

    function sock:receive(what) -- luacheck: no self
      if state.fault then
        return nil, state.fault, ""
      end
      if what == "*l" then
        local line, rest = buffer:match("^(.-)\r\n(.*)$")
        if not line then
          return nil, "closed", buffer
        end
        buffer = rest
        return line
      end
      if #buffer < what then
        return nil, "closed", buffer
      end
      local data = buffer:sub(1, what)
      buffer = buffer:sub(what + 1)
      return data
    end

    function sock:close() -- luacheck: no self
      state.closed = state.closed + 1
    end

    function sock:setkeepalive(idle, size) -- luacheck: no self
      state.kept = { idle, size }
      state.pool[#state.pool + 1] = answers
    end

    return sock
  end
end

--- Install both doubles.
-- @tparam table request `method`, `uri`, `host`, `ip`, `peer`, `headers`, `body`, `trusted`
-- @tparam table script see `tcp`
-- @treturn table what happened: sent, slept, exit, headers, timers, logs, cleared
function doubles.install(request, script)
  local state = {
    sent = {}, connected = {}, pool = {}, closed = 0, logs = {}, headers = {}, timers = {},
    cleared = {}, status = 200, source = "service", service_status = 200, response = {},
  }

  local function note(level)
    return function(...)
      local words = {}
      for i = 1, select("#", ...) do
        words[i] = tostring((select(i, ...)))
      end
      state.logs[#state.logs + 1] = level .. " " .. table.concat(words)
    end
  end

  _G.ngx = {
    null = NULL,
    arg = {},
    socket = { tcp = tcp(script or {}, state) },
    sleep = function(seconds)
      state.slept = seconds
    end,
    timer = {
      at = function(delay, fn, ...)
        if state.no_timers then
          return nil, "too many pending timers"
        end
        state.timers[#state.timers + 1] = { delay = delay, fn = fn, args = { ... } }
        return true
      end,
    },
  }

  _G.kong = {
    ctx = { plugin = {} },
    log = { err = note("err"), warn = note("warn") },
    client = {
      get_ip = function() return request.peer or "10.0.0.9" end,
      get_forwarded_ip = function() return request.ip or "203.0.113.7" end,
    },
    ip = {
      is_trusted = function(ip) return request.trusted == ip end,
    },
    request = {
      get_method = function() return request.method or "GET" end,
      get_path_with_query = function() return request.uri or "/" end,
      get_host = function() return request.host or "api.test" end,
      get_header = function(name) return lower_keys(request.headers)[name:lower()] end,
      get_headers = function() return lower_keys(request.headers), request.truncated end,
      get_raw_body = function(limit)
        state.body_limit = limit
        if request.raise then
          error(request.raise)
        end
        if request.in_file then
          return nil, request.in_file
        end
        return request.body or ""
      end,
    },
    service = {
      request = {
        clear_header = function(name) state.cleared[name] = true end,
      },
      response = {
        get_status = function() return state.service_status end,
      },
    },
    response = {
      exit = function(status, body, headers)
        state.exit = { status = status, body = body, headers = headers }
      end,
      set_header = function(name, value) state.headers[name] = value end,
      get_header = function(name) return lower_keys(state.response)[name:lower()] end,
      get_status = function() return state.status end,
      get_source = function() return state.source end,
    },
  }
  return state
end

--- Run the timers that are due once.
function doubles.fire(state, premature)
  local timers = state.timers
  state.timers = {}
  for _, timer in ipairs(timers) do
    timer.fn(premature or false, unpack(timer.args))
  end
end

--- Return the bytes of an answer of the daemon.
function doubles.answer(status, headers, body)
  local lines = { "HTTP/1.1 " .. status .. " Phrase" }
  for name, value in pairs(headers or {}) do
    lines[#lines + 1] = name .. ": " .. value
  end
  if status ~= 204 then
    lines[#lines + 1] = "Content-Length: " .. #(body or "")
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

--- Return a configuration as Kong hands it over: every default filled in.
function doubles.conf(changes)
  local conf = {
    socket = "/run/fairvisor.sock", port = 8080, on_failure = "closed", connect_timeout = 100,
    send_timeout = 100, read_timeout = 300, keepalive_timeout = 60000, keepalive_pool_size = 4,
    send_body = false, max_body_bytes = 1000, settle = true, max_response_bytes = 2000,
  }
  for name, value in pairs(changes or {}) do
    conf[name] = value
  end
  return conf
end

return doubles
