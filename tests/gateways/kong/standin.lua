--- What the plugin uses of Kong's plugin development kit, on plain nginx with the Lua module.
--
-- Semantics are those of Kong's reference pages; Kong itself is not needed to run the tests. The
-- configuration of each route comes from a file, completed by the plugin's own schema.

local cjson = require "cjson.safe"

local standin = { routes = {} }

local function forward(field)
  return function(...) return field(...) end
end

local function log(level)
  return function(...)
    ngx.log(level, "[kong] ", ...)
  end
end

local function plugin_context()
  return setmetatable({}, {
    __index = function(_, name)
      local values = ngx.ctx.plugin
      return values and values[name]
    end,
    __newindex = function(_, name, value)
      ngx.ctx.plugin = ngx.ctx.plugin or {}
      ngx.ctx.plugin[name] = value
    end,
  })
end

local function read_file(path, limit)
  local file = assert(io.open(path, "rb"))
  local size = file:seek("end")
  if size > limit then
    file:close()
    return nil, "request body file too big: " .. size .. " > " .. limit
  end
  file:seek("set")
  local body = file:read("*a")
  file:close()
  return body
end

local request = {
  get_method = forward(ngx.req.get_method),
  get_path_with_query = function() return ngx.var.request_uri end,
  get_host = function() return ngx.var.host end,
  get_header = function(name) return ngx.var["http_" .. name:gsub("-", "_")] end,
  get_headers = function(limit) return ngx.req.get_headers(limit) end,
  get_raw_body = function(limit)
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then
      return body
    end
    local path = ngx.req.get_body_file()
    if not path then
      return ""
    end
    return read_file(path, limit)
  end,
}

local response = {
  exit = function(status, body, headers)
    ngx.ctx.exited = true
    ngx.status = status
    for name, value in pairs(headers or {}) do
      ngx.header[name] = value
    end
    ngx.header["Content-Length"] = #(body or "")
    ngx.print(body)
    return ngx.exit(ngx.HTTP_OK)
  end,
  set_header = function(name, value) ngx.header[name] = value end,
  get_header = function(name)
    local value = ngx.header[name]
    return type(value) == "table" and value[1] or value
  end,
  get_status = function() return ngx.status end,
  get_source = function()
    if ngx.ctx.exited then
      return "exit"
    end
    return tonumber(ngx.var.upstream_header_time) and "service" or "error"
  end,
}

_G.kong = {
  ctx = { plugin = plugin_context() },
  log = { err = log(ngx.ERR), warn = log(ngx.WARN) },
  client = {
    get_ip = function() return ngx.var.realip_remote_addr end,
    get_forwarded_ip = function() return ngx.var.remote_addr end,
  },
  ip = { is_trusted = function(ip) return standin.trusted[ip] == true end },
  request = request,
  response = response,
  service = {
    request = { clear_header = function(name) ngx.req.clear_header(name) end },
    response = { get_status = function() return tonumber(ngx.var.upstream_status) end },
  },
}

-- The typedefs that the schema asks for, as tables to which a call adds attributes.
package.preload["kong.db.schema.typedefs"] = function()
  return setmetatable({}, { __index = function()
    return setmetatable({}, { __call = function(_, attributes) return attributes end })
  end })
end

local function with_defaults(given)
  local conf = {}
  for _, entry in ipairs(require("kong.plugins.fairvisor.schema").fields) do
    for _, setting in ipairs(entry.config and entry.config.fields or {}) do
      local name, field = next(setting)
      conf[name] = field.default
      if given[name] ~= nil then
        conf[name] = given[name]
      end
      given[name] = nil
    end
  end
  assert(next(given) == nil, "the schema does not know " .. tostring(next(given)))
  return conf
end

--- Read `{"trusted": [addresses], "routes": {prefix: configuration}}` and load the plugin.
function standin.load(path)
  local file = assert(io.open(path))
  local document = assert(cjson.decode(file:read("*a")))
  file:close()
  standin.trusted = {}
  for _, ip in ipairs(document.trusted or {}) do
    standin.trusted[ip] = true
  end
  for prefix, given in pairs(document.routes) do
    standin.routes[#standin.routes + 1] = { prefix = prefix, conf = with_defaults(given) }
  end
  table.sort(standin.routes, function(a, b) return #a.prefix > #b.prefix end)
  standin.handler = require "kong.plugins.fairvisor.handler"
end

--- Run one phase with the configuration of the longest prefix.
function standin.run(phase)
  local uri = ngx.var.uri
  for _, route in ipairs(standin.routes) do
    if uri:sub(1, #route.prefix) == route.prefix then
      return standin.handler[phase](standin.handler, route.conf)
    end
  end
end

return standin
