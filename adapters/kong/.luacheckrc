std = "ngx_lua"
max_line_length = 100
self = false -- Kong calls every phase with it
read_globals = { kong = { fields = {
  client = { other_fields = true },
  ctx = { fields = { plugin = { other_fields = true, read_only = false } } },
  ip = { other_fields = true },
  log = { other_fields = true },
  request = { other_fields = true },
  response = { other_fields = true },
  service = { other_fields = true },
} } }
