std = "ngx_lua"
max_line_length = 100
globals = { "kong", "ngx" } -- the doubles stand in their place
files["spec"] = { std = "+busted" }
