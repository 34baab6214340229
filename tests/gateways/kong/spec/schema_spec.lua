--- The schema against what the metaschema of Kong 3 asks of one, and the plugin's own use of it.

local TYPES = { string = true, integer = true, number = true, boolean = true, set = true,
                array = true, record = true, map = true }
local CHECKS = { only_one_of = true, at_least_one_of = true, mutually_required = true }
local ATTRIBUTES = { type = true, required = true, default = true, one_of = true, between = true,
                     starts_with = true, elements = true, fields = true, entity_checks = true }

local function typedef(base)
  return setmetatable({}, {
    __index = base,
    __call = function(_, changes)
      local field = {}
      for name, value in pairs(base) do field[name] = value end
      for name, value in pairs(changes) do field[name] = value end
      return field
    end,
  })
end

package.loaded["kong.db.schema.typedefs"] = setmetatable({
  protocols_http = typedef { type = "set" },
  host = typedef { type = "string" },
  port = typedef { type = "integer", between = { 0, 65535 } },
  timeout = typedef { type = "integer", between = { 0, 2 ^ 31 - 2 } },
  header_name = typedef { type = "string" },
}, { __index = function(_, name) error("there is no typedef " .. name) end })

local schema = require "kong.plugins.fairvisor.schema"
local doubles = require "doubles"

local function by_name(fields)
  local out = {}
  for _, entry in ipairs(fields) do
    local name, field = next(entry)
    assert.is_nil(next(entry, name), "one field an entry")
    assert.is_nil(out[name], "twice: " .. name)
    out[name] = field
  end
  return out
end

describe("the schema", function()
  local top = by_name(schema.fields)
  local config = by_name(top.config.fields)

  it("is a plugin's", function()
    assert.equal("fairvisor", schema.name)
    assert.equal("record", top.config.type)
    assert.is_truthy(top.protocols)
  end)

  it("has fields that the metaschema knows", function()
    for name, field in pairs(config) do
      assert.is_true(TYPES[field.type], name)
      for attribute in pairs(field) do
        assert.is_true(ATTRIBUTES[attribute], name .. "." .. attribute)
      end
    end
  end)

  it("has defaults that fit", function()
    for name, field in pairs(config) do
      if field.default ~= nil then
        local kind = field.type == "integer" and "number" or field.type
        assert.equal(kind, type(field.default), name)
        assert.is_true(field.required, name .. " could be set to null")
      end
      if field.between and field.default then
        assert.is_true(field.default >= field.between[1], name)
        assert.is_true(field.default <= field.between[2], name)
      end
    end
  end)

  it("asks for one way to the daemon", function()
    for _, check in ipairs(top.config.entity_checks) do
      local kind, names = next(check)
      assert.is_true(CHECKS[kind], kind)
      for _, name in ipairs(names) do
        assert.is_truthy(config[name], name)
        assert.is_nil(config[name].default, name)
      end
    end
    assert.same({ "socket", "host" }, top.config.entity_checks[1].only_one_of)
  end)

  it("knows every setting that the tests use, and they are all that it knows", function()
    local used = doubles.conf { host = "h", headers = {} }
    for name in pairs(used) do
      assert.is_truthy(config[name], name)
    end
    for name in pairs(config) do
      assert.is_truthy(used[name] ~= nil, name)
    end
  end)

  it("gives the decision less than half a second, and fails closed", function()
    local total = config.connect_timeout.default + config.send_timeout.default
      + config.read_timeout.default
    assert.is_true(total <= 500)
    assert.equal("closed", config.on_failure.default)
  end)
end)

describe("the handler", function()
  doubles.install({})
  local handler = require "kong.plugins.fairvisor.handler"

  it("says where it runs and which version it is", function()
    assert.equal("number", type(handler.PRIORITY))
    assert.is_true(handler.PRIORITY < 950) -- after acl, 950
    assert.is_true(handler.PRIORITY > 801) -- before request-transformer, 801
    assert.is_truthy(handler.VERSION:find("^%d+%.%d+%.%d+$"))
  end)
end)
