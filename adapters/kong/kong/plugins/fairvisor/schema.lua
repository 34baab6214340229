--- What an operator may set. Times are milliseconds, sizes bytes.

local typedefs = require "kong.db.schema.typedefs"

return {
  name = "fairvisor",
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          -- where the daemon is: one of the two
          { socket = { type = "string", starts_with = "/" } },
          { host = typedefs.host },
          { port = typedefs.port { default = 8080, required = true } },

          -- what happens if it does not answer in time
          { on_failure = {
              type = "string",
              required = true,
              default = "closed",
              one_of = { "closed", "open", "reads-open" },
          } },
          { connect_timeout = typedefs.timeout { default = 100, required = true } },
          { send_timeout = typedefs.timeout { default = 100, required = true } },
          { read_timeout = typedefs.timeout { default = 300, required = true } },
          { keepalive_timeout = typedefs.timeout { default = 60000, required = true } },
          { keepalive_pool_size = {
              type = "integer",
              required = true,
              default = 64,
              between = { 1, 4096 },
          } },

          -- what it is told
          { headers = {
              type = "set",
              elements = typedefs.header_name,
          } },
          { send_body = { type = "boolean", required = true, default = false } },
          { max_body_bytes = {
              type = "integer",
              required = true,
              default = 1048576,
              between = { 1, 10485760 },
          } },

          -- what is read of the answer of an LLM
          { settle = { type = "boolean", required = true, default = true } },
          { max_response_bytes = {
              type = "integer",
              required = true,
              default = 1048576,
              between = { 1024, 1048576 },
          } },
        },
        entity_checks = {
          { only_one_of = { "socket", "host" } },
        },
    } },
  },
}
